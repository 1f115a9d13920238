import CloudMountHTTP
import Foundation
import Testing

/// `openssl s_server` with a self-signed certificate for 127.0.0.1, serving the files of its folder.
final class TLSServer {
    let folder: URL
    private let process = Process()
    private(set) var port = 0

    var certificate: String { folder.appendingPathComponent("cert.pem").path }

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("cm-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        let request = Self.openssl([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=cloudmount test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out",
            "cert.pem",
        ])
        request.currentDirectoryURL = folder
        request.standardError = FileHandle.nullDevice
        try request.run()
        request.waitUntilExit()
        try Data(pattern(5_000_000)).write(to: folder.appendingPathComponent("body"))

        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-WWW",
        ]
        process.currentDirectoryURL = folder
        process.standardInput = Pipe()
        process.standardError = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        var text = ""
        while port == 0 {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            text += String(decoding: data, as: UTF8.self)
            for line in text.split(separator: "\n").dropLast(text.hasSuffix("\n") ? 0 : 1)
            where line.hasPrefix("ACCEPT") {
                port = line.split(separator: ":").last.flatMap { Int($0) } ?? 0
            }
        }
    }

    private static func openssl(_ arguments: [String]) -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        return process
    }

    func stop() {
        if process.isRunning {
            // A child inherits the blocked SIGTERM of the thread that started it.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        try? FileManager.default.removeItem(at: folder)
    }
}

@Suite("TLS", .serialized)
struct TLSTests {
    @Test("A self-signed server is refused, and accepted when its certificate is the caFile")
    func authorities() async throws {
        let server = try TLSServer()
        defer { server.stop() }
        var request = get("https://127.0.0.1:\(server.port)/body")
        let refusal = await failure(request)
        #expect(refusal?.kind == .tls)
        #expect(refusal?.message.contains("certificate") == true)

        request.options.caFile = server.certificate
        for _ in 0..<2 {
            let response = try await HTTPEngine.shared.perform(request)
            #expect(response.status == 200)
            #expect(same(response.body, pattern(5_000_000)))
            #expect(response.timings.tls > 0)
        }

        // The same handle trusts the system's authorities again.
        request.options.caFile = nil
        #expect(await failure(request)?.kind == .tls)
    }

    @Test("A certificate for another name is refused, whoever signed it")
    func otherName() async throws {
        let server = try TLSServer()
        defer { server.stop() }
        var request = get("https://localhost:\(server.port)/body")
        request.options.caFile = server.certificate
        #expect(await failure(request)?.kind == .tls)
    }

    @Test("A caFile that is not there is an error of TLS, never a fallback to the system's authorities")
    func missingFile() async throws {
        let server = try TLSServer()
        defer { server.stop() }
        var request = get("https://127.0.0.1:\(server.port)/body")
        request.options.caFile = "/nonexistent/ca.pem"
        #expect(await failure(request)?.kind == .tls)
    }

    @Test("A server that speaks no TLS is an error of TLS")
    func plainServer() async {
        await withServer { connection, _ in
            _ = connection.read(1)
            connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")
        } _: { server in
            #expect(await failure(get("https://127.0.0.1:\(server.port)/"))?.kind == .tls)
        }
    }

    @Test("A server that accepts and never shakes hands ends by the connect timeout")
    func silentServer() async {
        await withServer { connection, _ in
            connection.waitForEnd()
        } _: { server in
            var request = get("https://127.0.0.1:\(server.port)/")
            request.options.connectTimeout = .milliseconds(300)
            #expect(await failure(request)?.kind == .timedOut)
        }
    }
}
