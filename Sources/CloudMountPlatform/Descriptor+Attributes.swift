import CLinux
import Glibc

extension Descriptor {
    /// The extended attribute `name`; nil when there is none or the file system has no room for any.
    public func attribute(_ name: String) throws(SystemError) -> [UInt8]? {
        var room = 512
        while true {
            var count = -1
            let value = [UInt8](unsafeUninitializedCapacity: room) { buffer, filled in
                count = fgetxattr(raw, name, buffer.baseAddress, room)
                filled = max(0, count)
            }
            if count >= 0 { return value }
            switch errno {
            case ERANGE: room *= 8
            case ENODATA, ENOTSUP: return nil
            default: throw SystemError(errno)
            }
        }
    }

    public func setAttribute(_ name: String, _ value: [UInt8]) throws(SystemError) {
        try SystemError.check { fsetxattr(raw, name, value, value.count, 0) }
    }

    public func removeAttribute(_ name: String) throws(SystemError) {
        try SystemError.check { fremovexattr(raw, name) }
    }
}
