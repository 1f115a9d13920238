// Time, and work shared among threads.
#pragma once
#include <atomic>
#include <ctime>
#include <functional>
#include <thread>
#include <vector>

namespace bench {

inline double seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/// Runs `body` with a value that `make` made for each thread and with each of the numbers below `count`.
template <typename Make, typename Body> void share(uint64_t count, int threads, Make make, Body body) {
    std::atomic<uint64_t> next{0};
    std::vector<std::thread> running;
    for (int i = 0; i < threads; i++)
        running.emplace_back([&] {
            auto own = make();
            for (uint64_t index; (index = next++) < count;) body(own, index);
        });
    for (auto &thread : running) thread.join();
}

/// Numbers that look random, the same in each run.
class Dice {
public:
    explicit Dice(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
    uint64_t below(uint64_t limit) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ % limit;
    }

private:
    uint64_t state_;
};

} // namespace bench
