import CloudMountPlatform
import Glibc
import Synchronization

/// A folder under `/tmp` that goes with its owner, or at the latest with the test process.
public final class TemporaryFolder: Sendable {
    public let path: String
    private let duty: Reaper.Duty

    public init(_ label: String = "test") throws {
        var template = Array("/tmp/cloudmount-\(label)-XXXXXX".utf8CString)
        guard let made = template.withUnsafeMutableBufferPointer({ $0.baseAddress.flatMap { mkdtemp($0) } }) else {
            throw TestSupportError("no temporary folder: \(String(cString: strerror(errno)))")
        }
        path = String(cString: made)
        // Twice, since a process that was killed a moment ago may still be writing.
        let remove = "rm -rf --one-file-system \(path.shellQuoted)"
        duty = Reaper.atEnd("\(remove) || { sleep 0.5; \(remove); }")
    }

    deinit {
        removeTree(path)
        Reaper.withdraw(duty)
    }
}

/// Files that go with their owner, or at the latest with the test process.
final class TemporaryPaths: Sendable {
    private let paths: [String]
    private let duty: Reaper.Duty

    init(_ paths: [String]) {
        self.paths = paths
        duty = Reaper.atEnd("rm -f " + paths.map(\.shellQuoted).joined(separator: " "))
    }

    deinit {
        for path in paths { unlink(path) }
        Reaper.withdraw(duty)
    }
}

/// Removes a file or a whole folder, never crossing into another file system (a mount that is still there).
func removeTree(_ path: String) {
    guard
        let pid = try? spawn(
            ["/bin/rm", "-rf", "--one-file-system", path], environment: [], input: nil, output: nil,
            error: nil)
    else { return }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
}

public func writeFile(_ path: String, _ bytes: [UInt8], mode: UInt32 = 0o600) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw TestSupportError("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
        let count = bytes.withUnsafeBytes {
            Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done)
        }
        guard count > 0 else { throw TestSupportError("\(path): \(String(cString: strerror(errno)))") }
        done += count
    }
}

public func writeFile(_ path: String, _ text: String, mode: UInt32 = 0o600) throws {
    try writeFile(path, Array(text.utf8), mode: mode)
}

/// The text of a file; empty when there is none.
public func readFile(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = buffer.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { break }
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}

public enum Tools {
    /// The package's own folder.
    public static let packageRoot: String = {
        let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        return parts.dropLast(3).joined(separator: "/")
    }()

    /// A program from PyPI or Debian: from `make setup`'s own environment first, then from PATH, then from `folders`.
    public static func path(_ name: String, also folders: [String] = []) throws -> String {
        let candidates =
            ["\(packageRoot)/.build/venv/bin"]
            + (inheritedEnvironment()["PATH"] ?? "/usr/bin:/bin").split(separator: ":").map(String.init) + folders
        for folder in candidates where access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
        throw TestSupportError("\(name) is not installed; `make setup` does that")
    }
}

/// Free TCP ports of 127.0.0.1, below the range that the kernel gives to outgoing connections.
public enum Ports {
    private static let given = Mutex<Set<UInt16>>([])

    public static func free() throws -> UInt16 {
        for _ in 0..<1_000 {
            let port = UInt16.random(in: 21_000..<32_000)
            let fresh = given.withLock { $0.insert(port).inserted }
            if fresh, listener(port: port) != nil { return port }
        }
        throw TestSupportError("no free port")
    }

    /// A listening socket on 127.0.0.1; nil when the port is taken.
    static func listener(port: UInt16) -> Descriptor? {
        let raw = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { return nil }
        let socket = Descriptor(owning: raw)
        var one: Int32 = 1
        setsockopt(raw, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        guard withLoopback(port, { bind(raw, $0, $1) }) == 0, listen(raw, 128) == 0 else { return nil }
        return socket
    }

    /// A connection to 127.0.0.1; nil when it is refused.
    static func connection(port: UInt16) -> Int32? {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return nil }
        guard withLoopback(port, { connect(socket, $0, $1) }) == 0 else {
            close(socket)
            return nil
        }
        return socket
    }

    private static func withLoopback(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
