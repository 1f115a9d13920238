import CloudMountVFS
import TestServers
import Testing

@testable import B2Provider

@Suite("What a key may do")
struct RestrictionTests {
    private static func prepare(
        without missing: [String] = [], allowed: String = "\"buckets\": null, \"namePrefix\": null",
        _ options: [String: OptionValue] = [:], prefix: String = "", writable: Bool = true
    ) async throws -> (B2Provider, VFSError?) {
        let script = try ScriptedB2(
            capabilities: ScriptedB2.everything.filter { !missing.contains($0) }, allowed: allowed
        ) { request, _ in
            request.operation == "b2_list_file_names" ? .json("{\"files\": [], \"nextFileName\": null}") : nil
        }
        let provider = try script.provider(options, prefix: prefix)
        let error = await failure { try await provider.prepare(writable: writable) }
        return (provider, error)
    }

    @Test("A capability that reading needs is named when it is missing", arguments: ["listFiles", "readFiles"])
    func reading(capability: String) async throws {
        let (_, error) = try await Self.prepare(without: [capability])
        #expect(error?.code == .permissionDenied)
        #expect(error?.message.contains(capability) == true)
    }

    @Test("A key that cannot write makes the mount read-only, and says why")
    func writing() async throws {
        let (provider, error) = try await Self.prepare(without: ["writeFiles"])
        #expect(error == nil)
        #expect(provider.capabilities.readOnlyReason?.contains("writeFiles") == true)
        let (whole, none) = try await Self.prepare()
        #expect(none == nil)
        #expect(whole.capabilities.readOnlyReason == nil)
    }

    @Test("Deleting for good without the capability is refused, hiding is not")
    func deleting() async throws {
        let (_, error) = try await Self.prepare(without: ["deleteFiles"], ["delete": .string("permanent")])
        #expect(error?.code == .permissionDenied)
        #expect(error?.message.contains("deleteFiles") == true)
        #expect(try await Self.prepare(without: ["deleteFiles"]).1 == nil)
        let readOnly = try await Self.prepare(
            without: ["deleteFiles"], ["delete": .string("permanent")], writable: false)
        #expect(readOnly.1 == nil)
    }

    @Test(
        "A prefix outside the key's is refused, naming the one to set",
        arguments: [
            ("", false), ("other/", false), ("photos/", true), ("photos/2026/", true), ("photo/", false),
        ])
    func prefixes(prefix: String, isFine: Bool) async throws {
        let (_, error) = try await Self.prepare(
            allowed: "\"buckets\": null, \"namePrefix\": \"photos/\"", prefix: prefix)
        #expect((error == nil) == isFine)
        if !isFine {
            #expect(error?.code == .permissionDenied)
            #expect(error?.message.contains("prefix: photos/") == true)
        }
    }

    @Test("A key of other buckets is refused, naming them")
    func otherBuckets() async throws {
        let (_, error) = try await Self.prepare(
            allowed: "\"buckets\": [{\"id\": \"x\", \"name\": \"theirs\"}], \"namePrefix\": null")
        #expect(error?.code == .permissionDenied)
        #expect(error?.message.contains("theirs") == true)
    }

    @Test("A key of this bucket names it when asking, and needs no listBuckets")
    func ownBucket() async throws {
        let allowed = "\"buckets\": [{\"id\": \"b1\", \"name\": \"bucket-one\"}], \"namePrefix\": null"
        let script = try ScriptedB2(allowed: allowed)
        _ = try await script.prepared()
        #expect(script.seen.first { $0.operation == "b2_list_buckets" }?.text.contains("\"bucketId\":\"b1\"") == true)
        #expect(try await Self.prepare(without: ["listBuckets"], allowed: allowed).1 == nil)
        let (_, error) = try await Self.prepare(without: ["listBuckets"])
        #expect(error?.message.contains("listBuckets") == true)
    }

    @Test("A bucket that is not there is told apart")
    func missingBucket() async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation == "b2_list_buckets" ? .json("{\"buckets\": []}") : nil
        }
        #expect(await failure { try await script.provider().prepare(writable: true) }?.code == .bucketNotFound)
    }

    @Test(
        "Encryption and Object Lock leave less room for metadata",
        arguments: [
            (
                "\"defaultServerSideEncryption\": {\"isClientAuthorizedToRead\": true, \"value\": {\"mode\": \"SSE-B2\"}}",
                true
            ),
            (
                "\"defaultServerSideEncryption\": {\"isClientAuthorizedToRead\": true, \"value\": {\"mode\": \"none\"}}",
                false
            ),
            (
                "\"defaultServerSideEncryption\": {\"isClientAuthorizedToRead\": true, \"value\": {\"mode\": null}}",
                false
            ),
            ("\"defaultServerSideEncryption\": {\"isClientAuthorizedToRead\": false, \"value\": null}", true),
            (
                "\"fileLockConfiguration\": {\"isClientAuthorizedToRead\": true, \"value\": {\"isFileLockEnabled\": true}}",
                true
            ),
            ("\"bucketInfo\": {\"mode\": \"SSE-B2\"}", false),
        ])
    func protection(setting: String, isProtected: Bool) async throws {
        let script = try ScriptedB2(bucket: "\"bucketId\": \"b1\", \"bucketName\": \"bucket-one\", \(setting)")
        #expect(try await script.prepared().capabilities.maxMetadataBytes == (isProtected ? 1150 : 5450))
    }

    @Test("Who logs in under TLS is not led out of it")
    func downgrade() async throws {
        let session = B2Session(B2Session.Identity(realm: "https://127.0.0.1:1", keyID: "id", key: "k"))
        #expect(await failure { _ = try await session.authorisation(counting: B2Billing()) }?.code == .connectionFailed)
    }
}
