import CloudMountVFS
import Glibc

extension VFSError.Code {
    /// The only place where an error becomes an errno.
    ///
    /// A store that cannot be asked is EIO: never ENOENT, which would say that the file is gone, and, when a credential
    /// is wrong or expired, never EACCES, which would say that this user may not. Never ENOSYS, which the kernel takes
    /// for good.
    var errno: Int32 {
        switch self {
        case .notFound: ENOENT
        case .alreadyExists: EEXIST
        case .preconditionFailed, .stale: ESTALE
        case .permissionDenied: EACCES
        case .bucketNotFound, .uploadNotFound, .credentialsInvalid, .credentialsExpired: EIO
        case .throttled, .unavailable, .timedOut, .connectionFailed: EIO
        case .corrupted, .malformedResponse, .archived, .conflict, .io: EIO
        case .quotaExceeded: EDQUOT
        case .tooLarge: EFBIG
        case .nameTooLong: ENAMETOOLONG
        case .invalidName, .invalidArgument: EINVAL
        case .notSupported: EOPNOTSUPP
        case .cancelled: EINTR
        case .readOnly: EROFS
        case .notPermitted: EPERM
        case .notDirectory: ENOTDIR
        case .isDirectory: EISDIR
        case .notEmpty: ENOTEMPTY
        case .crossDevice: EXDEV
        case .noAttribute: ENODATA
        case .resultTooLarge: ERANGE
        case .badHandle: EBADF
        case .noSpace: ENOSPC
        case .noData: ENXIO
        case .busy: EBUSY
        case .symbolicLink: ELOOP
        }
    }

    /// The code for an errno of a system call that mounts or unmounts.
    init(systemCall errno: Int32) {
        self =
            switch errno {
            case ENOENT: .notFound
            case ENOTDIR: .notDirectory
            case EBUSY: .busy
            case EPERM, EACCES: .permissionDenied
            case ENAMETOOLONG: .nameTooLong
            default: .io
            }
    }
}

extension VFSError {
    /// What a program is told. A request that the store takes for malformed is CloudMount's mistake or the store's, and EIO: at EINVAL
    /// `rm -f` takes the name for absent.
    var errno: Int32 { code == .invalidArgument && wire != nil ? EIO : code.errno }

    /// What a system call that mounts or unmounts said.
    init(systemCall errno: Int32, _ what: String) {
        self.init(Code(systemCall: errno), "\(what): \(String(cString: strerror(errno)))")
    }
}
