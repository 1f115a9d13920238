import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

extension Request {
    /// Runs `body` with the name of an extended attribute.
    ///
    /// Of the namespace `system` there are POSIX ACLs, on mounts that have them. The rest is not supported, which is said
    /// here: `ls -l` asks of every file, and this answer makes it stop.
    fileprivate func with(attribute name: UnsafePointer<CChar>?, _ body: (String) -> Void) {
        guard let name, let name = String(validatingCString: name) else {
            return fail(VFSError(.invalidArgument, "an attribute's name is not UTF-8"))
        }
        let isACL = name == "system.posix_acl_access" || name == "system.posix_acl_default"
        if name.utf8.starts(with: "system.".utf8), !(session.acl && isACL) {
            return fail(VFSError(.notSupported, "\(name) is not supported"))
        }
        body(name)
    }
}

extension Request {
    /// Answers what the file system need not know of.
    fileprivate func answersItself(_ name: UnsafePointer<CChar>, size: Int) -> Bool {
        guard inode == UInt64(FUSE_ROOT_ID), let control = session.control,
            String(validatingCString: name) == FUSEMount.controlAttribute
        else { return false }
        attributeValue(size: size).send(Array(control.utf8))
        return true
    }
}

extension fuse_lowlevel_ops {
    mutating func fillExtendedAttributes() {
        setxattr = { raw, inode, name, value, count, flags in
            guard let request = Request(raw) else { return }
            request.with(attribute: name) {
                request.operations.setxattr(
                    inode, name: $0, value: [UInt8](UnsafeRawBufferPointer(start: value, count: count)), flags: flags,
                    reply: request.done())
            }
        }
        getxattr = { raw, inode, name, size in
            guard let request = Request(raw) else { return }
            if let name, request.answersItself(name, size: size) { return }
            request.with(attribute: name) {
                request.operations.getxattr(inode, name: $0, reply: request.attributeValue(size: size))
            }
        }
        listxattr = { raw, inode, size in
            guard let request = Request(raw) else { return }
            request.operations.listxattr(inode, reply: request.attributeNames(size: size))
        }
        removexattr = { raw, inode, name in
            guard let request = Request(raw) else { return }
            request.with(attribute: name) {
                request.operations.removexattr(inode, name: $0, reply: request.done())
            }
        }
    }
}
