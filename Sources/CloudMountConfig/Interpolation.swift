import CloudMountVFS
import Glibc

/// Replaces `${env:NAME}`, `${env:NAME:-fallback}` and `${file:PATH}` in a value; `$${` is a plain `${`.
struct Interpolation: Sendable {
    struct Fault: Error, Equatable { var message: String }

    let environment: [String: String]
    /// Who runs this process.
    let user: UInt32

    init(environment: [String: String], user: UInt32 = geteuid()) {
        self.environment = environment
        self.user = user
    }

    /// What the value is for.
    enum Use {
        case plain
        /// A file that everyone can read is refused.
        case secret
        /// A file that others may write is refused.
        case command
    }

    static func isPresent(in text: String) -> Bool { text.contains("${") }

    func resolve(_ text: String, for use: Use) throws(Fault) -> String {
        var rest = Substring(text)
        return try resolve(&rest, depth: 0, use)
    }

    private static let mostNested = 16

    private func resolve(_ rest: inout Substring, depth: Int, _ use: Use) throws(Fault) -> String {
        guard depth <= Self.mostNested else { throw Fault(message: "'${…}' is nested too deeply") }
        var result = ""
        while let character = rest.first {
            if depth > 0, character == "}" { return result }
            if rest.hasPrefix("$${") {
                result += "${"
                rest = rest.dropFirst(3)
            } else if rest.hasPrefix("${") {
                rest = rest.dropFirst(2)
                let reference = try resolve(&rest, depth: depth + 1, use)
                guard rest.first == "}" else { throw Fault(message: "'${' is never closed") }
                rest = rest.dropFirst()
                result += try value(of: reference, for: use)
            } else {
                result.append(character)
                rest = rest.dropFirst()
            }
        }
        return result
    }

    private func value(of reference: String, for use: Use) throws(Fault) -> String {
        if reference.hasPrefix("env:") {
            let body = reference.dropFirst(4)
            guard let cut = body.firstRange(of: ":-") else {
                guard let value = environment[String(body)] else {
                    throw Fault(message: "the environment has no '\(body)'\(hint(String(body)))")
                }
                return value
            }
            let value = environment[String(body[..<cut.lowerBound])] ?? ""
            return value.isEmpty ? String(body[cut.upperBound...]) : value
        }
        if reference.hasPrefix("file:") { return try content(of: String(reference.dropFirst(5)), for: use) }
        throw Fault(message: "'${…}' takes env:NAME or file:PATH")
    }

    private func hint(_ name: String) -> String {
        NearestWord.hint(name, among: environment.keys.filter { $0.count > 3 }.sorted())
    }

    private func content(of path: String, for use: Use) throws(Fault) -> String {
        guard path.hasPrefix("/") else { throw Fault(message: "the path in '${file:…}' must be absolute") }
        let file: SmallFile
        do throws(SmallFile.Fault) {
            file = try SmallFile(path: path, limit: 64 << 10)
        } catch {
            throw Fault(message: "cannot read the file \(path): \(error.message)")
        }
        if use == .command,
            let fault = CommandFile.fault(path, mode: file.mode, owner: file.owner, user: user)
        {
            throw Fault(message: "the command is of a file that is not to be trusted: \(fault)")
        }
        if use == .secret, file.mode & 0o004 != 0 {
            let mode = "0" + String(file.mode & 0o777, radix: 8)
            throw Fault(message: "the secret file \(path) can be read by everyone (mode \(mode)); chmod 600 it")
        }
        guard var text = String(validating: file.bytes, as: UTF8.self) else {
            throw Fault(message: "the file \(path) is not UTF-8")
        }
        if text.utf8.last == UInt8(ascii: "\n") { text.unicodeScalars.removeLast() }
        if text.utf8.last == UInt8(ascii: "\r") { text.unicodeScalars.removeLast() }
        return text
    }
}

/// A file read whole, with its permissions.
struct SmallFile {
    struct Fault: Error { var message: String }

    let bytes: [UInt8]
    let mode: UInt32
    let owner: UInt32

    init(path: String, limit: Int) throws(Fault) {
        // A fifo would hold the caller until somebody writes to it.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw Fault(message: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Fault(message: String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT != S_IFDIR else { throw Fault(message: "it is a directory") }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN {
                var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                guard poll(&polled, 1, 10_000) != 0 else { throw Fault(message: "nothing comes out of it") }
                continue
            }
            guard count >= 0 else { throw Fault(message: String(cString: strerror(errno))) }
            if count == 0 { break }
            bytes += chunk[..<count]
            guard bytes.count <= limit else { throw Fault(message: "it is larger than \(Units.text(bytes: limit))") }
        }
        self.bytes = bytes
        mode = status.st_mode
        owner = status.st_uid
    }
}
