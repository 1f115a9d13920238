import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

extension fuse_lowlevel_ops {
    mutating func fillFiles() {
        open = { raw, inode, info in
            guard let request = Request(raw), let info else { return }
            var caller = request.caller
            caller.clearSetID = ServingThread.body(as: fuse_open_in.self)?.pointee.killsSetID ?? false
            request.operations.open(inode, flags: info.pointee.flags, caller: caller, reply: request.opened())
        }
        create = { raw, parent, name, mode, info in
            guard let request = Request(raw), let info else { return }
            request.with(name) {
                request.operations.create(
                    parent: parent, name: $0, mode: mode, flags: info.pointee.flags, caller: request.caller,
                    reply: request.created())
            }
        }
        read = { raw, inode, count, offset, info in
            guard let request = Request(raw), let info else { return }
            request.operations.read(
                inode, handle: info.pointee.fh, offset: offset, count: count, reply: request.read())
        }
        write = { raw, inode, bytes, count, offset, info in
            guard let request = Request(raw), let info else { return }
            let flags = ServingThread.body(as: fuse_write_in.self)?.pointee.write_flags ?? 0
            request.operations.write(
                inode, handle: info.pointee.fh, offset: offset,
                bytes: UnsafeRawBufferPointer(start: bytes, count: count),
                clearSetID: flags & UInt32(FUSE_WRITE_KILL_SUIDGID) != 0, reply: request.written())
        }
        flush = { raw, inode, info in
            guard let request = Request(raw), let info else { return }
            request.operations.flush(inode, handle: info.pointee.fh, reply: request.done())
        }
        release = { raw, inode, info in
            guard let request = Request(raw), let info else { return }
            request.operations.release(inode, handle: info.pointee.fh, reply: request.done())
        }
        fsync = { raw, inode, dataOnly, info in
            guard let request = Request(raw), let info else { return }
            request.operations.fsync(
                inode, handle: info.pointee.fh, dataOnly: dataOnly != 0, reply: request.done())
        }
        fallocate = { raw, inode, mode, offset, count, info in
            guard let request = Request(raw), let info else { return }
            request.operations.fallocate(
                inode, handle: info.pointee.fh, mode: mode, offset: offset, count: count, reply: request.done())
        }
        lseek = { raw, inode, offset, whence, info in
            guard let request = Request(raw), let info else { return }
            request.operations.lseek(
                inode, handle: info.pointee.fh, offset: offset, whence: whence, reply: request.position())
        }
        copy_file_range = { raw, from, fromOffset, fromInfo, to, toOffset, toInfo, count, _ in
            guard let request = Request(raw), let fromInfo, let toInfo else { return }
            request.operations.copyFileRange(
                from: from, fromHandle: fromInfo.pointee.fh, fromOffset: fromOffset, to: to,
                toHandle: toInfo.pointee.fh, toOffset: toOffset, count: count, reply: request.written())
        }
        // What ioctl(2) says of a command that a file does not know.
        ioctl = { raw, _, _, _, _, _, _, _, _ in fuse_reply_err(raw, ENOTTY) }
    }
}

extension fuse_open_in {
    fileprivate var killsSetID: Bool { open_flags & UInt32(FUSE_OPEN_KILL_SUIDGID) != 0 }
}
