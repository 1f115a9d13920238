// files WHAT ...: what a program does with files of a mount, timed. Prints one JSON object; ends with 1 when bytes are
// wrong or a call fails.
//   read PATH SIZE                from front to back, 1 MiB a call
//   write PATH SIZE               the same way, then fsync and close
//   create FOLDER COUNT THREADS SECONDS    files of 4 KiB, as many as the time allows
//   readall FOLDER COUNT THREADS SECONDS   the same files: open, read, close
//   random PATH SIZE THREADS SECONDS   4 KiB a call
//   overwrite PATH SIZE COUNT     blocks of 4 KiB at random places, then fsync and close
//   rename FROM TO
#include "Clock.hpp"
#include "Pattern.hpp"
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <set>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using namespace bench;
using std::string;

namespace {

constexpr size_t block = 4096;
const Pattern pattern;

[[noreturn]] void fail(const string &what) {
    perror(what.c_str());
    exit(1);
}

[[noreturn]] void wrong(const string &what, uint64_t offset) {
    fprintf(stderr, "%s: wrong bytes at %llu\n", what.c_str(), static_cast<unsigned long long>(offset));
    exit(1);
}

int opened(const string &path, int flags) {
    int file = open(path.c_str(), flags | O_CLOEXEC, 0644);
    if (file < 0) fail("open " + path);
    return file;
}

/// After writing: close may say that something went wrong.
void closed(int file, const string &path) {
    if (close(file) != 0) fail("close " + path);
}

string numbered(const string &folder, uint64_t index) {
    char name[32];
    snprintf(name, sizeof name, "/f%06llu", static_cast<unsigned long long>(index));
    return folder + name;
}

void report(double began, uint64_t count, double firstByte = 0) {
    printf("{\"seconds\": %.6f, \"count\": %llu, \"first\": %.6f}\n", seconds() - began,
           static_cast<unsigned long long>(count), firstByte);
}

void readWhole(const string &path, uint64_t size) {
    std::vector<char> piece(MiB);
    double began = seconds(), first = 0;
    int file = opened(path, O_RDONLY);
    uint64_t offset = 0;
    while (true) {
        ssize_t count = read(file, piece.data(), piece.size());
        if (count < 0) fail("read " + path);
        if (count == 0) break;
        if (offset == 0) first = seconds() - began;
        // A look at one page of each piece costs the measurement nothing.
        size_t looked = std::min<size_t>(count, block);
        if (!pattern.matches(piece.data(), looked, offset)) wrong(path, offset);
        offset += count;
    }
    close(file);
    if (offset != size) wrong(path, offset);
    report(began, size, first);
}

void writeWhole(const string &path, uint64_t size) {
    double began = seconds();
    int file = opened(path, O_WRONLY | O_CREAT | O_TRUNC);
    for (uint64_t offset = 0; offset < size;) {
        ssize_t count = write(file, pattern.at(offset), std::min<uint64_t>(Pattern::reach, size - offset));
        if (count <= 0) fail("write " + path);
        offset += count;
    }
    if (fsync(file) != 0) fail("fsync " + path);
    closed(file, path);
    report(began, size);
}

void create(const string &folder, uint64_t files, int threads, double time) {
    double began = seconds();
    std::atomic<uint64_t> done{0};
    if (mkdir(folder.c_str(), 0755) != 0) fail("mkdir " + folder);
    share(files, threads, [] { return 0; }, [&](int, uint64_t index) {
        if (seconds() - began > time) return;
        string path = numbered(folder, index);
        int file = opened(path, O_WRONLY | O_CREAT | O_EXCL);
        if (write(file, pattern.at(0), block) != ssize_t(block)) fail("write " + path);
        closed(file, path);
        done++;
    });
    report(began, done);
}

void readAll(const string &folder, uint64_t files, int threads, double time) {
    double began = seconds();
    std::atomic<uint64_t> done{0};
    share(files, threads, [] { return std::vector<char>(16 * KiB); }, [&](std::vector<char> &piece, uint64_t index) {
        if (seconds() - began > time) return;
        string path = numbered(folder, index);
        int file = opened(path, O_RDONLY);
        ssize_t count = read(file, piece.data(), piece.size());
        if (count < 0) fail("read " + path);
        if (size_t(count) != block || !pattern.matches(piece.data(), block, 0)) wrong(path, 0);
        close(file);
        done++;
    });
    report(began, done);
}

void readRandomly(const string &path, uint64_t size, int threads, double time) {
    double began = seconds();
    std::atomic<uint64_t> total{0};
    share(threads, threads, [&] { return opened(path, O_RDONLY); }, [&](int file, uint64_t index) {
        posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
        std::vector<char> piece(block);
        Dice dice(index + 1);
        uint64_t done = 0;
        for (; seconds() - began < time; done++) {
            uint64_t offset = dice.below(size / block) * block;
            if (pread(file, piece.data(), block, offset) != ssize_t(block)) fail("read " + path);
            if (!pattern.matches(piece.data(), block, offset)) wrong(path, offset);
        }
        total += done;
        close(file);
    });
    report(began, total);
}

void overwrite(const string &path, uint64_t size, uint64_t blocks) {
    const string marked(block, mark);
    Dice dice(5);
    double began = seconds();
    int file = opened(path, O_RDWR);
    std::set<uint64_t> written;
    while (written.size() < blocks) {
        uint64_t offset = dice.below(size / block) * block;
        if (!written.insert(offset).second) continue;
        if (pwrite(file, marked.data(), block, offset) != ssize_t(block)) fail("write " + path);
    }
    if (fsync(file) != 0) fail("fsync " + path);
    closed(file, path);
    report(began, blocks);
}

void renameFolder(const string &from, const string &to) {
    double began = seconds();
    if (rename(from.c_str(), to.c_str()) != 0) fail("rename " + from);
    report(began, 1);
}

} // namespace

int main(int count, char **arguments) {
    const std::vector<string> given(arguments + 1, arguments + count);
    auto is = [&](const char *what, size_t length) { return given.size() == length && given[0] == what; };
    auto number = [&](size_t index) { return strtoull(given[index].c_str(), nullptr, 10); };
    if (is("read", 3)) readWhole(given[1], number(2));
    else if (is("write", 3)) writeWhole(given[1], number(2));
    else if (is("create", 5)) create(given[1], number(2), number(3), atof(given[4].c_str()));
    else if (is("readall", 5)) readAll(given[1], number(2), number(3), atof(given[4].c_str()));
    else if (is("random", 5)) readRandomly(given[1], number(2), number(3), atof(given[4].c_str()));
    else if (is("overwrite", 4)) overwrite(given[1], number(2), number(3));
    else if (is("rename", 3)) renameFolder(given[1], given[2]);
    else return 2;
}
