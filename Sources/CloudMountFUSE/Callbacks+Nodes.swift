import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

// libfuse's table: each callback decodes one operation and hands it on. What cannot be supported is left unset, where
// libfuse's ENOSYS is what the kernel expects, or answers another error: links, ioctls.

extension FileName {
    init(_ name: UnsafePointer<CChar>) throws(VFSError) {
        try self.init(
            validating: UnsafeBufferPointer(
                start: UnsafeRawPointer(name).assumingMemoryBound(to: UInt8.self), count: strlen(name)))
    }
}

extension Request {
    /// Runs `body` with `name`, or answers that it is not a legal one.
    func with(_ name: UnsafePointer<CChar>?, _ body: (FileName) -> Void) {
        guard let name else { return fail(VFSError(.invalidName, "no name")) }
        do throws(VFSError) {
            body(try FileName(name))
        } catch {
            fail(error)
        }
    }
}

extension fuse_lowlevel_ops {
    /// Names, nodes and their attributes.
    mutating func fillNodes() {
        lookup = { raw, parent, name in
            guard let request = Request(raw), let name else { return }
            do throws(VFSError) {
                request.operations.lookup(parent: parent, name: try FileName(name), reply: request.entry())
            } catch {
                // What can have no such name has no such file.
                fuse_reply_err(request.raw, error.code == .invalidName ? ENOENT : error.errno)
            }
        }
        forget = { raw, inode, count in
            guard let request = Request(raw) else { return }
            fuse_reply_none(request.raw)
            request.operations.forget(inode, count: count)
        }
        forget_multi = { raw, count, list in
            guard let request = Request(raw) else { return }
            for one in UnsafeBufferPointer(start: list, count: count) {
                request.operations.forget(one.ino, count: one.nlookup)
            }
            fuse_reply_none(request.raw)
        }
        getattr = { raw, inode, info in
            guard let request = Request(raw) else { return }
            request.operations.getattr(inode, handle: info?.pointee.fh, reply: request.attributes())
        }
        setattr = { raw, inode, stat, toSet, info in
            guard let request = Request(raw), let stat else { return }
            request.operations.setattr(
                inode, handle: info?.pointee.fh, changes: AttributeChanges(stat.pointee, toSet: toSet),
                caller: request.caller, reply: request.attributes())
        }
        access = { raw, inode, mask in
            guard let request = Request(raw) else { return }
            request.operations.access(inode, mask: mask, caller: request.caller, reply: request.done())
        }
        readlink = { raw, inode in
            guard let request = Request(raw) else { return }
            request.operations.readlink(inode, reply: request.target())
        }
        mknod = { raw, parent, name, mode, device in
            guard let request = Request(raw) else { return }
            request.with(name) {
                request.operations.mknod(
                    parent: parent, name: $0, mode: mode, device: UInt32(truncatingIfNeeded: device),
                    caller: request.caller, reply: request.entry())
            }
        }
        mkdir = { raw, parent, name, mode in
            guard let request = Request(raw) else { return }
            request.with(name) {
                request.operations.mkdir(
                    parent: parent, name: $0, mode: mode, caller: request.caller, reply: request.entry())
            }
        }
        unlink = { raw, parent, name in
            guard let request = Request(raw) else { return }
            request.with(name) { request.operations.unlink(parent: parent, name: $0, reply: request.done()) }
        }
        rmdir = { raw, parent, name in
            guard let request = Request(raw) else { return }
            request.with(name) { request.operations.rmdir(parent: parent, name: $0, reply: request.done()) }
        }
        symlink = { raw, target, parent, name in
            guard let request = Request(raw) else { return }
            request.with(name) {
                guard let target, let target = String(validatingCString: target) else {
                    return request.fail(VFSError(.invalidArgument, "a link's target is not UTF-8"))
                }
                request.operations.symlink(
                    target: target, parent: parent, name: $0, caller: request.caller, reply: request.entry())
            }
        }
        rename = { raw, parent, name, newParent, newName, flags in
            guard let request = Request(raw) else { return }
            request.with(name) { name in
                request.with(newName) { newName in
                    request.operations.rename(
                        parent: parent, name: name, newParent: newParent, newName: newName,
                        flags: RenameFlags(rawValue: flags), reply: request.done())
                }
            }
        }
        // "The filesystem containing oldpath and newpath does not support the creation of hard links": link(2).
        link = { raw, _, _, _ in fuse_reply_err(raw, EPERM) }
    }
}
