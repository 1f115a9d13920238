import Foundation
import Glibc
import TestServers
import Testing

extension MountTests {
    @Suite("The doctor", .serialized)
    struct Doctor {
        private struct Finding: Decodable {
            var state: String
            var of: String
            var what: String
            var cure: String?
        }

        private func findings(_ arguments: [String], folder: String) async throws -> (
            code: ChildProcess.Exit, all: [Finding]
        ) {
            let result = try await ChildProcess.run(
                [MountFixture.binary, "doctor", "--json"] + arguments,
                environment: ["HOME": folder, "CLOUDMOUNT_CONFIG": "\(folder)/mounts.yaml"], seconds: 120)
            do {
                return (result.exit, try JSONDecoder().decode([Finding].self, from: Data(result.output.utf8)))
            } catch { throw TestSupportError("\(error): \(result)") }
        }

        @Test(
            "A store that may be written is listed, written, read and cleaned up, and nothing is left",
            arguments: [Store.folder, .seaweedFS])
        func well(_ store: Store) async throws {
            let folder = try TemporaryFolder("doctor")
            let bucket = try await Bucket.make(in: store, below: folder.path)
            let yaml = bucket.yaml(mount: MountOptions(settings: "prefix: deep/"), path: "\(folder.path)/m")
            try writeFile(
                "\(folder.path)/mounts.yaml",
                """
                version: 1
                cache: { directory: \(folder.path)/cache, keep_free: 1MiB }
                \(yaml.credentials.isEmpty ? "" : "credentials:\n\(yaml.credentials)")
                mounts:
                \(yaml.mount)
                """)
            let (code, all) = try await findings(["m"], folder: folder.path)
            #expect(code == .code(0), "\(all)")
            for verb in ["list", "write", "look", "read", "delete"] {
                #expect(
                    all.contains { $0.of == "m" && $0.state == "good" && $0.what.hasPrefix("\(verb) is allowed (") })
            }
            #expect(all.contains { $0.of == "m" && $0.what.hasPrefix("the clocks agree") })
            #expect(all.contains { $0.of == "this machine" && $0.what == "/dev/fuse can be opened" })
            #expect(all.allSatisfy { $0.state != "fault" || $0.cure != nil })
            let (again, none) = try await findings(["m"], folder: folder.path)
            #expect(again == .code(0) && none.count == all.count)
            if store == .folder {
                let left = try await ChildProcess.output(of: [
                    "find", folder.path, "-name", "*doctor*", "-path", "*deep*",
                ])
                #expect(left.isEmpty)
            }
        }

        @Test("Faults are named with their cures, and the exit code says that there are some")
        func faults() async throws {
            let folder = try TemporaryFolder("doctor")
            let (code, all) = try await findings(["file://\(folder.path)/none"], folder: folder.path)
            #expect(code == .code(1))
            let fault = try #require(all.first { $0.of == "none" && $0.state == "fault" })
            #expect(fault.what.contains("cannot be opened"))
            #expect(fault.cure == "create it, or correct bucket, region and endpoint of 'none'")
            let (refused, unreachable) = try await findings(
                ["s3://bucket", "--endpoint", "http://127.0.0.1:1", "--option", "path_style=true"], folder: folder.path)
            #expect(
                refused == .code(1)
                    && unreachable.contains { $0.of == "bucket" && $0.state == "fault" && $0.cure != nil })
            for (arguments, expected) in [(["none"], Int32(78)), (["gs://x"], 2), (["--read-only"], 2)] {
                let result = try await ChildProcess.run(
                    [MountFixture.binary, "doctor"] + arguments,
                    environment: ["HOME": folder.path, "CLOUDMOUNT_CONFIG": "\(folder.path)/mounts.yaml"], seconds: 60)
                #expect(result.exit == .code(expected), "\(arguments): \(result)")
            }
        }
    }
}
