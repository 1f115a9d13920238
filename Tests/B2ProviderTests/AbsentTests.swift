import CloudMountVFS
import TestServers
import Testing

@testable import B2Provider

/// New files where there is no conditional write: the look goes out together with the write.
@Suite("New files")
struct AbsentTests {
    private struct Scene: Sendable {
        /// The id that the look finds; nil: none. `failed`: the look gets no answer.
        var look: String?
        var isLookFailed = false
        /// Newest first; `ours` is what the write makes.
        var versions: [String] = []
        var mayDelete = true
    }

    private static func file(_ id: String) -> String {
        let nonce = id.hasPrefix("ours") ? "n1" : "n2"
        return B2ProviderTests.file(
            "k", id: id, action: id.hasPrefix("hidden") ? "hide" : "upload", size: 1,
            info: id.hasPrefix("bare") ? "{}" : "{\"cm_nonce\": \"\(nonce)\"}")
    }

    /// - Returns: the error, and what was deleted and copied.
    private func run(_ scene: Scene) async throws -> (VFSError.Code?, deleted: [String], copied: [String], ScriptedB2) {
        let script = try ScriptedB2 { request, home in
            switch (request.method, request.operation) {
            case ("HEAD", _):
                if scene.isLookFailed { return ScriptedAnswer(status: 503) }
                return scene.look.map { ScriptedAnswer(headers: headers($0, [("Content-Length", "1")])) }
                    ?? ScriptedAnswer(status: 404)
            case ("GET", let path) where path.hasPrefix("/file/"): return .error(503, "service_unavailable")
            case (_, "b2_get_upload_url"):
                return .json("{\"uploadUrl\": \"http://\(home)/up/1\", \"authorizationToken\": \"u1\"}")
            case (_, "/up/1"): return .json(Self.file("ours"))
            case (_, "b2_list_file_versions"):
                let files = scene.versions.map(Self.file).joined(separator: ", ")
                return .json("{\"files\": [\(files)], \"nextFileName\": null, \"nextFileId\": null}")
            case (_, "b2_delete_file_version"):
                return scene.mayDelete ? .json("{\"fileId\": \"4_z\"}") : .error(401, "unauthorized")
            case (_, "b2_copy_file"): return .json(Self.file("copy"))
            default: return nil
            }
        }
        let provider = try await script.prepared()
        let request = PutRequest(key: "k", metadata: ObjectMetadata(nonce: "n1"), precondition: .absent)
        let error = await failure { _ = try await provider.put(request, from: BytesSource("x")) }
        func ids(_ operation: String, _ field: String) -> [String] {
            script.seen.filter { $0.operation == operation }.map { request in
                let rest = request.text.split(separator: "\"\(field)\":\"").last ?? ""
                return String(rest.prefix { $0 != "\"" })
            }
        }
        return (error?.code, ids("b2_delete_file_version", "fileId"), ids("b2_copy_file", "sourceFileId"), script)
    }

    @Test("A new file is one look and one write")
    func sideBySide() async throws {
        let (error, deleted, copied, script) = try await run(Scene())
        #expect(error == nil && deleted.isEmpty && copied.isEmpty)
        #expect(Set(script.work) == ["/file/bucket-one/k", "b2_get_upload_url", "/up/1"])
    }

    @Test(
        "A file that somebody else made meanwhile stays the current version, whenever the look comes",
        arguments: ["other", "ours", nil])
    func clash(look: String?) async throws {
        for other in ["other", "bare"] {
            let seen = look == "other" ? other : look
            let scene = Scene(look: seen, isLookFailed: look == nil, versions: ["ours", other])
            let (error, deleted, copied, _) = try await run(scene)
            #expect(error == .preconditionFailed)
            #expect(deleted == ["ours"] && copied.isEmpty)
        }
    }

    @Test("An earlier attempt of ours is no clash, and is taken away with this one where there is one")
    func earlierAttempt() async throws {
        let (error, deleted, _, _) = try await run(Scene(look: "ours0", versions: ["ours", "ours0"]))
        #expect(error == nil && deleted.isEmpty)
        let (clash, both, _, _) = try await run(Scene(look: "ours0", versions: ["ours", "ours0", "other"]))
        #expect(clash == .preconditionFailed)
        #expect(both == ["ours0", "ours"], "the current one last")
    }

    @Test("What is hidden, what came later, and a look that failed over nothing are no clash")
    func noClash() async throws {
        for scene in [
            Scene(look: "ours", versions: ["ours", "hidden", "other"]),
            Scene(look: "other", versions: ["other", "ours"]),
            Scene(isLookFailed: true, versions: ["ours"]),
        ] {
            let (error, deleted, copied, _) = try await run(scene)
            #expect(error == nil && deleted.isEmpty && copied.isEmpty)
        }
    }

    @Test("A folder that is marked under its other name is there")
    func otherName() async throws {
        let (error, deleted, _, _) = try await run(Scene(look: "other", versions: ["ours"]))
        #expect(error == .preconditionFailed && deleted == ["ours"])
    }

    @Test("A key that may not delete puts theirs back on top, while ours is still the current version")
    func restored() async throws {
        for (look, copies) in [("ours", ["other"]), ("other", [])] {
            let scene = Scene(look: look, versions: ["ours", "other"], mayDelete: false)
            let (error, _, copied, _) = try await run(scene)
            #expect(error == .preconditionFailed)
            #expect(copied == copies)
        }
    }
}
