import CloudMountPlatform
import CloudMountVFS
import Glibc

// What the folder's rooms ask the system for.

extension Descriptor {
    /// Names in a directory, without `.` and `..`, in no order; those that are not UTF-8 are left out: no key names them.
    func entries() throws(SystemError) -> [(name: String, type: UInt8)] {
        var result: [(name: String, type: UInt8)] = []
        try eachEntry { name, type in
            if let name = String(validating: name, as: UTF8.self) { result.append((name, type)) }
        }
        return result
    }

    /// Calls `body` with the bytes and the type (`DT_…`) of each name in a directory, without `.` and `..`, in no order.
    func eachEntry(_ body: (UnsafeRawBufferPointer, UInt8) throws(SystemError) -> Void) throws(SystemError) {
        let copy = try SystemError.check { openat(raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw SystemError(errno)
        }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw SystemError(errno) }
                return
            }
            let type = entry.pointee.d_type
            try withUnsafeBytes(of: &entry.pointee.d_name) { bytes throws(SystemError) in
                let name = UnsafeRawBufferPointer(rebasing: bytes.prefix { $0 != 0 })
                if !name.elementsEqual(".".utf8), !name.elementsEqual("..".utf8) { try body(name, type) }
            }
        }
    }

    /// What a name of `eachEntry` is; nil for what is no object and no directory.
    func isDirectory(_ name: UnsafeRawBufferPointer, _ type: UInt8) -> Bool? {
        switch Int(type) {
        case DT_DIR: return true
        case DT_REG, DT_LNK: return false
        case DT_UNKNOWN:
            let text = String(decoding: name, as: UTF8.self)
            guard let status = try? status(of: text) else { return nil }
            return status.kind == S_IFDIR
        default: return nil
        }
    }

    func status() throws(SystemError) -> stat {
        var status = stat()
        try SystemError.check { fstat(raw, &status) }
        return status
    }

    /// Of a name in this directory, not of what a symbolic link points to.
    func status(of name: String) throws(SystemError) -> stat {
        var status = stat()
        try SystemError.check { fstatat(raw, name, &status, AT_SYMLINK_NOFOLLOW) }
        return status
    }

    /// Removes a directory of files from this one, best effort.
    func removeTree(_ name: String) {
        if let directory = try? open(name, for: .directory), let names = try? directory.entries() {
            for entry in names { unlinkat(directory.raw, entry.name, 0) }
        }
        unlinkat(raw, name, AT_REMOVEDIR)
    }
}

extension stat {
    var kind: mode_t { st_mode & S_IFMT }
    var modified: Timestamp { Timestamp(seconds: st_mtim.tv_sec, nanoseconds: st_mtim.tv_nsec) }
    var changed: Timestamp { Timestamp(seconds: st_ctim.tv_sec, nanoseconds: st_ctim.tv_nsec) }
}
