import CloudMountPlatform
import CloudMountVFS
import Glibc

enum DirectoryErrors {
    /// The meaning of a failed system call. What names are absent is decided where they are looked up, not here.
    static func map(_ error: SystemError, _ what: String) -> VFSError {
        let message = "\(what): \(error.message)"
        switch error.code {
        case ENOENT: return VFSError(.notFound, message)
        case EACCES, EPERM: return VFSError(.permissionDenied, message)
        case EROFS: return VFSError(.readOnly, message)
        case ENOSPC, EDQUOT: return VFSError(.quotaExceeded, message)
        case EFBIG: return VFSError(.tooLarge, message)
        case ENAMETOOLONG: return VFSError(.nameTooLong, message)
        case EINVAL, EILSEQ: return VFSError(.invalidName, message)
        case ENOSYS, EOPNOTSUPP: return VFSError(.notSupported, message)
        case EMFILE, ENFILE, ENOMEM, EAGAIN, ESTALE, EBUSY: return VFSError(.unavailable, message, retry: .backoff)
        default: return VFSError(.io, message, retry: .backoff)
        }
    }

    static func notFound(_ key: ObjectKey) -> VFSError { VFSError(.notFound, "there is no object “\(key)”") }
    static func stale(_ key: ObjectKey) -> VFSError { VFSError(.stale, "“\(key)” has changed in the folder") }
    static func precondition(_ key: ObjectKey) -> VFSError {
        VFSError(.preconditionFailed, "“\(key)” is not in the state that the write asks for")
    }
    static func upload(_ id: String) -> VFSError { VFSError(.uploadNotFound, "there is no upload “\(id)”") }
}

/// Runs system calls and says their failures in the terms of the core.
@discardableResult
func system<Value>(_ what: String, _ body: () throws(SystemError) -> Value) throws(VFSError) -> Value {
    do throws(SystemError) {
        return try body()
    } catch {
        throw DirectoryErrors.map(error, what)
    }
}
