import CFUSE3
import CloudMountFilesystem
import CloudMountVFS

extension Session {
    /// FUSE_STATX, which the kernel sends for callers that want the time of birth. libfuse 3.14 would answer ENOSYS.
    func statx(_ header: fuse_in_header) {
        guard let body = ServingThread.body(as: cm_fuse_statx_in.self)?.pointee else { return }
        let unique = header.unique
        let thread = Int32(truncatingIfNeeded: header.pid)
        let reply = Reply<AttributeReply>(onInterrupt: { self.interrupts.watch(unique, thread: thread, $0) }) {
            result in
            self.interrupts.unwatch(unique)
            switch result {
            case .success(let value):
                var answer = cm_fuse_statx_out()
                let (seconds, attoseconds) = value.validFor.components
                answer.attr_valid = UInt64(max(0, seconds))
                answer.attr_valid_nsec = UInt32(max(0, attoseconds) / 1_000_000_000)
                answer.stat = value.attributes.statx
                self.send(answer, to: unique)
            case .failure(let error):
                self.send(error: error.errno, to: unique)
            }
        }
        let handle = body.getattr_flags & UInt32(FUSE_GETATTR_FH) != 0 ? body.fh : nil
        operations.getattr(header.nodeid, handle: handle, reply: reply)
    }
}
