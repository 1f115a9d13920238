import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

extension fuse_lowlevel_ops {
    mutating func fillDirectories() {
        opendir = { raw, inode, _ in
            guard let request = Request(raw) else { return }
            request.operations.opendir(inode, reply: request.openedDirectory())
        }
        readdir = { raw, inode, count, offset, info in
            guard let request = Request(raw), let info else { return }
            request.list(inode, handle: info.pointee.fh, offset: offset, count: count, plus: false)
        }
        readdirplus = { raw, inode, count, offset, info in
            guard let request = Request(raw), let info else { return }
            request.list(inode, handle: info.pointee.fh, offset: offset, count: count, plus: true)
        }
        releasedir = { raw, inode, info in
            guard let request = Request(raw), let info else { return }
            request.operations.releasedir(inode, handle: info.pointee.fh, reply: request.done())
        }
        fsyncdir = { raw, inode, dataOnly, info in
            guard let request = Request(raw), let info else { return }
            request.operations.fsyncdir(
                inode, handle: info.pointee.fh, dataOnly: dataOnly != 0, reply: request.done())
        }
        statfs = { raw, _ in
            guard let request = Request(raw) else { return }
            request.operations.statfs(reply: request.statistics())
        }
    }
}

extension Request {
    fileprivate func list(_ inode: InodeID, handle: HandleID, offset: Int, count: Int, plus: Bool) {
        let buffer = DirectoryBuffer(self, capacity: count, plus: plus)
        operations.readdir(
            inode, handle: handle, offset: offset, plus: plus, packer: buffer, reply: buffer.reply())
    }
}
