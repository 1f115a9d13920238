// What Linux has and Swift's Glibc overlay does not show. Declarations only; imported by CloudMountPlatform alone.
#ifndef CLOUDMOUNT_CLINUX_SHIM_H
#define CLOUDMOUNT_CLINUX_SHIM_H
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static inline int cm_thread_set_name(const char *name) {
    extern int pthread_setname_np(pthread_t, const char *);
    return pthread_setname_np(pthread_self(), name);
}

// sem_clockwait(3): until that time of CLOCK_MONOTONIC (1), whose struct timespec is two numbers of 64 bits.
static inline int cm_semaphore_wait(void *semaphore, int64_t seconds, int64_t nanoseconds) {
    extern int sem_clockwait(void *, int, const void *);
    const int64_t deadline[2] = {seconds, nanoseconds};
    return sem_clockwait(semaphore, 1, deadline);
}

static inline int cm_syncfs(int descriptor) { return syncfs(descriptor); }

static inline int cm_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

static inline int cm_pipe(int ends[2]) {
    extern int pipe2(int[2], int);
    return pipe2(ends, O_CLOEXEC);
}

static inline int cm_accept(int listener) {
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    return accept4(listener, 0, 0, SOCK_CLOEXEC);
}

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

// openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS: no path leads out of `root`.
static inline int cm_open_beneath(int root, const char *path, int flags, unsigned mode) {
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC | O_NOFOLLOW,
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

// renameat2(2) with RENAME_NOREPLACE: EEXIST where the new name is taken.
static inline int cm_rename_new(int from, const char *name, int to, const char *new_name) {
    return (int)syscall(SYS_renameat2, from, name, to, new_name, 1);
}

static inline ssize_t cm_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count) {
    extern ssize_t copy_file_range(int, off_t *, int, off_t *, size_t, unsigned);
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

// preadv2(2) with RWF_NOWAIT: what is in the page cache, at once; -1 and EAGAIN when the disk would have to be asked.
static inline ssize_t cm_read_now(int fd, void *bytes, size_t count, off_t offset) {
    struct iovec vector = {.iov_base = bytes, .iov_len = count};
    extern ssize_t preadv2(int, const struct iovec *, int, off_t, int);
    return preadv2(fd, &vector, 1, offset, 8);
}

// CRC-32C by the processor's instruction, of which every x86-64 since 2009 and every aarch64 server has one: whether this one has.
static inline int cm_has_crc32c(void) {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 20)) != 0;
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & (1ul << 7)) != 0;
#else
    return 0;
#endif
}

// Of `count` words of eight bytes each, without the inversion at its ends.
#if defined(__x86_64__)
__attribute__((target("sse4.2")))
#elif defined(__aarch64__)
__attribute__((target("crc")))
#endif
static inline uint32_t cm_crc32c_words(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *next = (const unsigned char *)bytes;
    for (; count > 0; count--, next += 8) {
        uint64_t word;
        __builtin_memcpy(&word, next, 8);
#if defined(__x86_64__)
        crc = (uint32_t)__builtin_ia32_crc32di(crc, word);
#elif defined(__aarch64__)
        crc = __builtin_arm_crc32cd(crc, word);
#else
        (void)word;
#endif
    }
    return crc;
}

// Whether `path` is on tmpfs: TMPFS_MAGIC is the first number of statfs(2)'s structure, which has some 120 bytes.
static inline int cm_is_on_tmpfs(const char *path) {
    long system[64] = {0};
    return syscall(SYS_statfs, path, system) == 0 && system[0] == 0x01021994;
}
#endif
