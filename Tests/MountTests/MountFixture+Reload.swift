import Glibc
import TestServers
import Testing

/// What a test needs that changes the file of a running daemon.
extension MountFixture {
    func reload(_ words: [String] = []) async throws -> ChildProcess.Result {
        try await ChildProcess.run(
            [Self.binary, "reload", "-f", configuration] + words, environment: ["HOME": folder], seconds: 120)
    }

    /// Signals the daemon, and waits until it has said `text` after that.
    func signal(_ number: Int32, until text: String? = nil) async throws {
        let before = log.utf8.count
        daemon?.signal(number)
        guard let text else { return }
        try await eventually("'\(text)'") { String(decoding: log.utf8.dropFirst(before), as: UTF8.self).contains(text) }
    }

    /// As `python`, without waiting for its end.
    func background(_ script: String, in directory: String? = nil) throws -> ChildProcess {
        try pythonProcess(script, directory: directory ?? path)
    }

    /// A program that has `file`, below the folder of the mounts, open.
    func hold(_ file: String) async throws -> HeldFile {
        let marker = "\(folder)/held-\(UInt32.random(in: 0...UInt32.max))"
        let process = try background(
            """
            file = open(W + "/mnt/\(file)", "rb")
            open("\(marker)", "w").close()
            while not os.path.exists("\(marker).end"): time.sleep(0.01)
            sys.stdout.write(file.read().decode())
            """, in: folder)
        try await eventually("an open file") { access(marker, F_OK) == 0 }
        return HeldFile(process: process, marker: marker)
    }
}

struct HeldFile: Sendable {
    let process: ChildProcess
    let marker: String

    /// Reads it to its end and closes it.
    func finish() async throws -> String {
        try writeFile(marker + ".end", "")
        let exit = await process.wait(seconds: 30)
        guard exit == .code(0) else { throw TestSupportError("\(exit): \(process.transcript)") }
        return process.output
    }
}
