import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

extension Timestamp {
    var timespec: Glibc.timespec { Glibc.timespec(tv_sec: seconds, tv_nsec: nanoseconds) }
    var statx: cm_fuse_sx_time {
        cm_fuse_sx_time(tv_sec: Int64(seconds), tv_nsec: UInt32(truncatingIfNeeded: nanoseconds), reserved: 0)
    }
    init(_ time: Glibc.timespec) { self.init(seconds: time.tv_sec, nanoseconds: time.tv_nsec) }
}

extension Duration {
    /// Seconds, as libfuse takes timeouts.
    var timeout: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

extension FileAttributes {
    private static let preferredBlock = 4096

    var mode: UInt32 { kind.rawValue | permissions & 0o7777 }
    /// Of 512 bytes, whatever the preferred block is.
    var blocks: Int { max(0, ((allocated ?? size) &+ 511) / 512) }

    var stat: Glibc.stat {
        var stat = Glibc.stat()
        stat.st_ino = UInt(inode)
        stat.st_mode = mode
        stat.st_nlink = UInt(linkCount)
        stat.st_uid = uid
        stat.st_gid = gid
        stat.st_rdev = UInt(device)
        stat.st_size = size
        stat.st_blksize = Self.preferredBlock
        stat.st_blocks = blocks
        stat.st_atim = accessed.timespec
        stat.st_mtim = modified.timespec
        stat.st_ctim = changed.timespec
        return stat
    }

    var statx: cm_fuse_statx {
        var statx = cm_fuse_statx()
        statx.mask = 0xFFF  // STATX_BASIC_STATS | STATX_BTIME
        statx.blksize = UInt32(Self.preferredBlock)
        statx.nlink = linkCount
        statx.uid = uid
        statx.gid = gid
        statx.mode = UInt16(truncatingIfNeeded: mode)
        statx.ino = inode
        statx.size = UInt64(max(0, size))
        statx.blocks = UInt64(max(0, blocks))
        statx.atime = accessed.statx
        statx.btime = born.statx
        statx.ctime = changed.statx
        statx.mtime = modified.statx
        // The kernel's 32-bit form: twelve bits of major number inside twenty of minor.
        statx.rdev_major = (device & 0xFFF00) >> 8
        statx.rdev_minor = device & 0xFF | (device >> 12) & 0xFFF00
        return statx
    }
}

extension Entry {
    var parameters: fuse_entry_param {
        var parameters = fuse_entry_param()
        parameters.entry_timeout = validFor.timeout
        if let attributes {
            parameters.ino = attributes.inode
            parameters.attr = attributes.stat
            parameters.attr_timeout = attributesValidFor.timeout
        }
        return parameters
    }
}

extension OpenReply {
    func fill(_ info: inout fuse_file_info) {
        info.fh = handle
        cm_set_open_flags(&info, keepCache, noFlush)
    }
}

extension AttributeChanges {
    init(_ stat: Glibc.stat, toSet: Int32) {
        self.init()
        if toSet & FUSE_SET_ATTR_MODE != 0 { permissions = stat.st_mode & 0o7777 }
        if toSet & FUSE_SET_ATTR_UID != 0 { uid = stat.st_uid }
        if toSet & FUSE_SET_ATTR_GID != 0 { gid = stat.st_gid }
        if toSet & FUSE_SET_ATTR_SIZE != 0 { size = stat.st_size }
        if toSet & FUSE_SET_ATTR_ATIME_NOW != 0 {
            accessed = .now
        } else if toSet & FUSE_SET_ATTR_ATIME != 0 {
            accessed = .at(Timestamp(stat.st_atim))
        }
        if toSet & FUSE_SET_ATTR_MTIME_NOW != 0 {
            modified = .now
        } else if toSet & FUSE_SET_ATTR_MTIME != 0 {
            modified = .at(Timestamp(stat.st_mtim))
        }
        // FATTR_KILL_SUIDGID has the bit that libfuse calls KILL_SUID.
        clearSetID = toSet & FUSE_SET_ATTR_KILL_SUID != 0
    }
}
