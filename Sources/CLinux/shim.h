// What Linux has and Swift's Glibc overlay does not show. Declarations only; imported by CloudMountPlatform alone.
#ifndef CLOUDMOUNT_CLINUX_SHIM_H
#define CLOUDMOUNT_CLINUX_SHIM_H
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/types.h>

static inline int cm_thread_set_name(const char *name) {
    extern int pthread_setname_np(pthread_t, const char *);
    return pthread_setname_np(pthread_self(), name);
}

static inline int cm_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// The bytes that a TCP socket has taken and its peer has not acknowledged (SIOCOUTQ of tcp(7)); -1 when that is unknown.
static inline int cm_unsent_bytes(int fd) {
    int count = 0;
    return ioctl(fd, TIOCOUTQ, &count) == 0 ? count : -1;
}

// fallocate(2): FALLOC_FL_KEEP_SIZE 1, FALLOC_FL_PUNCH_HOLE 2, FALLOC_FL_ZERO_RANGE 16.
static inline int cm_fallocate(int fd, int mode, off_t offset, off_t count) {
    extern int fallocate(int, int, off_t, off_t);
    return fallocate(fd, mode, offset, count);
}
#endif
