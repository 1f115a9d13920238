import CFUSE3

extension fuse_lowlevel_ops {
    mutating func fillConnection() {
        self.`init` = { userdata, connection in
            guard let userdata, let connection else { return }
            connection.pointee.negotiate(acl: Unmanaged<Session>.fromOpaque(userdata).takeUnretainedValue().acl)
        }
    }
}

extension fuse_conn_info {
    /// What we want of what the kernel can do; the rest of INIT is in `Session.extend`.
    fileprivate mutating func negotiate(acl: Bool) {
        var wanted =
            FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO
            | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_DONT_MASK | FUSE_CAP_EXPIRE_ONLY
        if acl { wanted |= FUSE_CAP_POSIX_ACL }
        // Locks stay with the kernel, writes come through at once, and cached pages are dropped when a file's size
        // changes, when it is opened without `keepCache`, or when told, not whenever its mtime has moved. Not
        // FUSE_CAP_ASYNC_DIO: the kernel drops the pages under an asynchronous O_DIRECT write only before it, so that a
        // buffered reader would bring the old bytes back and keep them.
        want = capable & UInt32(wanted)
        max_write = UInt32(Session.maximumTransfer)
        max_readahead = UInt32.max
        max_background = 64
        congestion_threshold = 48
        time_gran = 1
    }
}
