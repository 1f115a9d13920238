// libfuse's low-level interface, and what of the kernel's protocol Debian 12's headers do not have yet. Imported by
// CloudMountFUSE alone.
#ifndef CLOUDMOUNT_CFUSE3_SHIM_H
#define CLOUDMOUNT_CFUSE3_SHIM_H
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

// Bit-fields of struct fuse_file_info.
static inline void cm_set_open_flags(struct fuse_file_info *info, bool keep_cache, bool noflush) {
    info->keep_cache = keep_cache;
    info->noflush = noflush;
}

// INIT flags, for those that Swift cannot import as they stand.
enum {
    CM_INIT_PARALLEL_DIROPS = 1 << 18,
    CM_INIT_HANDLE_KILLPRIV = 1 << 19,
    CM_INIT_HANDLE_KILLPRIV_V2 = 1 << 28,
};

// FUSE_STATX, protocol 7.39.
enum { CM_FUSE_STATX = 52 };

struct cm_fuse_statx_in {
    uint32_t getattr_flags;
    uint32_t reserved;
    uint64_t fh;
    uint32_t sx_flags;
    uint32_t sx_mask;
};

struct cm_fuse_sx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved;
};

struct cm_fuse_statx {
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare0[1];
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    struct cm_fuse_sx_time atime;
    struct cm_fuse_sx_time btime;
    struct cm_fuse_sx_time ctime;
    struct cm_fuse_sx_time mtime;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t spare2[14];
};

struct cm_fuse_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    struct cm_fuse_statx stat;
};

// One descriptor out of a socket (SCM_RIGHTS), close-on-exec; -1 when the peer closed it without sending one.
static inline int cm_receive_descriptor(int socket) {
    char byte;
    struct iovec iov = {&byte, 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {0};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    // MSG_CMSG_CLOEXEC, which needs _GNU_SOURCE.
    if (recvmsg(socket, &message, 0x40000000) <= 0) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS
        || header->cmsg_len < CMSG_LEN(sizeof(int)))
        return -1;
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}
#endif
