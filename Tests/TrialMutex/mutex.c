// The slow path of Swift's Mutex is in a library that is not instrumented: ThreadSanitizer does not see that a thread
// which had to wait for the lock comes after the one that let go of it, and reports every use of what the lock guards.
// These two take the place of the library's in the trial alone. The fast path (compiled into the caller, and so
// instrumented) puts the thread's id into the word where there is a zero, and a zero back; here the same is tried until
// it succeeds. Nobody sleeps in the kernel, so there is never anybody to be woken.

#include "TrialMutex.h"
#include <sched.h>
#include <stdint.h>

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

SWIFT void cm_lock_slow(uint32_t thread, SELF uint32_t *word) __asm__(
    "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF");
SWIFT void cm_unlock_slow(SELF uint32_t *word) __asm__("$s15Synchronization12_MutexHandleV11_unlockSlowyyF");

SWIFT void cm_lock_slow(uint32_t thread, SELF uint32_t *word) {
    for (;;) {
        uint32_t free = 0;
        if (__atomic_compare_exchange_n(word, &free, thread, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
        sched_yield();
    }
}

SWIFT void cm_unlock_slow(SELF uint32_t *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }

void cm_trial_mutex(void) {}

static int counter;

int cm_trial_race(void) { return ++counter; }
