import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

@Suite("WebDAV: what is stored, replaced and taken away")
struct BehaviourTests {
    @Test("The probe believes what the server shows, and leaves nothing")
    func probe() async throws {
        let fake = FakeDAV()
        let (good, _) = try await prepared(fake)
        #expect(
            good.dav.server
                == WebDAVServer(
                    exclusiveMove: true, conditions: true, isOneStep: true, movesFolders: true, moveKeepsTag: true,
                    tellsTag: true, keepsRecord: true, exclusiveFolders: true, copies: true))
        #expect(fake.paths == ["/dav", "/dav/.cloudmount"])
        var poor = FakeDAV.Traits()
        (poor.conditions, poor.properties, poor.exclusiveMove) = (false, false, false)
        let (bad, _) = try await prepared(FakeDAV(poor))
        #expect(bad.dav.server == WebDAVServer(isOneStep: true, tellsTag: true, exclusiveFolders: true))
        #expect(!bad.capabilities.metadata && !bad.capabilities.conditionalCreate && !bad.capabilities.serverCopy)
        var plain = FakeDAV.Traits()
        (plain.conditions, plain.properties) = (false, false)
        let (usual, _) = try await prepared(FakeDAV(plain))
        #expect(usual.capabilities.conditionalCreate && usual.capabilities.serverCopy)
        #expect(!usual.capabilities.conditionalReplace && !usual.capabilities.conditionalDelete)
        // Who is not known to look and act in one step is relied upon for nothing.
        for name in ["Apache/2.4.66", "nginx", "", "my rclone/v1"] {
            var unknown = FakeDAV.Traits()
            unknown.name = name
            let capabilities = try await prepared(FakeDAV(unknown)).provider.capabilities
            #expect(!capabilities.conditionalCreate && !capabilities.conditionalReplace, "\(name)")
            #expect(!capabilities.conditionalCopy && !capabilities.conditionalDelete && capabilities.serverCopy)
        }
    }

    @Test("The writer's time is sent only where no tag is made of it")
    func times() async throws {
        var traits = FakeDAV.Traits()
        traits.keepsTime = true
        #expect(try await prepared(FakeDAV(traits)).provider.dav.server.keepsTime)
        traits.tagsAreTimes = true
        #expect(try await !prepared(FakeDAV(traits)).provider.dav.server.keepsTime)
        // Such a tag looks as if it were none where PUT tells another.
        traits.putTellsEarlyTag = true
        let (dav, _) = try await prepared(FakeDAV(traits))
        #expect(!dav.dav.server.keepsTime)
        let metadata = ObjectMetadata(modified: Timestamp(seconds: 1_500_000_000))
        let stored = try await dav.put(PutRequest(key: "f", metadata: metadata), from: BytesSource("x"))
        #expect(try await dav.head("f").etag == stored.etag)
    }

    @Test("What PUT tells of the tag is believed where it is what a look shows")
    func toldTag() async throws {
        var traits = FakeDAV.Traits()
        for (tells, isEarly) in [(true, false), (false, false), (true, true)] {
            (traits.putTellsTag, traits.putTellsEarlyTag, traits.keepsTime) = (tells, isEarly, true)
            let (dav, server) = try await prepared(FakeDAV(traits))
            #expect(dav.dav.server.tellsTag == (tells && !isEarly))
            let before = server.seen.count
            let metadata = ObjectMetadata(modified: Timestamp(seconds: 1_500_000_000))
            let stored = try await dav.put(PutRequest(key: "f", metadata: metadata), from: BytesSource("x"))
            let looks = server.seen.dropFirst(before).count { $0.method == "PROPFIND" }
            #expect(looks == (dav.dav.server.tellsTag ? 0 : 1))
            #expect(try await dav.head("f").etag == stored.etag)
        }
    }

    @Test("A server that takes nothing is mounted for reading, and says why")
    func readOnly() async throws {
        var traits = FakeDAV.Traits()
        traits.isReadOnly = true
        let fake = FakeDAV(traits)
        fake.put("/dav/a", "x")
        let (provider, _) = try await prepared(fake)
        #expect(provider.capabilities.readOnlyReason != nil)
        #expect(try await provider.head("a").size == 1)
    }

    private static let sides: [FakeDAV.Traits] = {
        var plain = FakeDAV.Traits()
        (plain.conditions, plain.properties, plain.putTellsTag) = (false, false, false)
        var weak = FakeDAV.Traits()
        (weak.weak, weak.putTellsTag) = (true, false)
        return [FakeDAV.Traits(), plain, weak]
    }()

    private func text(_ provider: WebDAVProvider, _ key: ObjectKey, _ version: ETag? = nil) async throws -> String {
        let sink = CollectingSink()
        _ = try await provider.read(ReadRequest(key: key, version: version), into: sink)
        return sink.text
    }

    @Test("An upload that breaks off leaves the old version, and nothing else", arguments: sides)
    func brokenUpload(traits: FakeDAV.Traits) async throws {
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        let old = try await provider.put(PutRequest(key: "a"), from: BytesSource("old"))
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "PUT" else { return nil }
                // Half of it lies there, as rclone leaves it.
                fake.put(request.path, "ha")
                return ScriptedAnswer(status: 500)
            }
        }
        let error = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "a", precondition: .match(old.etag)), from: BytesSource("half"))
        }
        #expect(error?.code == .unavailable)
        fake.before.withLock { $0 = nil }
        #expect(try await text(provider, "a", old.etag) == "old")
        #expect(fake.paths == ["/dav", "/dav/.cloudmount", "/dav/a"])
    }

    @Test("What came while it was uploaded is neither overwritten nor mixed", arguments: sides)
    func meanwhile(traits: FakeDAV.Traits) async throws {
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        let old = try await provider.put(PutRequest(key: "a"), from: BytesSource("old"))
        fake.before.withLock {
            $0 = { fake, request in
                if request.method == "PUT" { fake.put("/dav/a", "new") }
                return nil
            }
        }
        for precondition in [Precondition.match(old.etag), .absent] {
            let error = await failure { () async throws(VFSError) in
                try await provider.put(PutRequest(key: "a", precondition: precondition), from: BytesSource("ours"))
            }
            #expect(error?.code == .preconditionFailed)
        }
        let stale = await failure { () async throws(VFSError) in
            try await provider.copy(CopyRequest(source: old, destination: "b"))
        }
        #expect(stale?.code == .stale)
        let sink = CollectingSink()
        let read = await failure { () async throws(VFSError) in
            try await provider.read(ReadRequest(key: "a", version: old.etag), into: sink)
        }
        #expect(read?.code == .stale && sink.text.isEmpty)
        let failures = try await provider.delete([DeleteRequest("a", version: old.etag)])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
        #expect(try await text(provider, "a") == "new")
        #expect(fake.paths == ["/dav", "/dav/.cloudmount", "/dav/a"])
    }

    @Test("With conditions the server decides, also after the last look")
    func lastMoment() async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake)
        let old = try await provider.put(PutRequest(key: "a"), from: BytesSource("old"))
        fake.before.withLock {
            $0 = { fake, request in
                if ["MOVE", "DELETE"].contains(request.method),
                    !request.path.contains("put-") || request.method == "MOVE"
                {
                    fake.put("/dav/a", "new")
                }
                return nil
            }
        }
        let error = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "a", precondition: .match(old.etag)), from: BytesSource("ours"))
        }
        #expect(error?.code == .preconditionFailed)
        let failures = try await provider.delete([DeleteRequest("a", version: old.etag)])
        #expect(failures.map(\.error.code) == [.preconditionFailed])
        #expect(try await text(provider, "a") == "new")
    }

    @Test("A folder is never deleted with what is in it, also not with what came after the look", arguments: sides)
    func folders(traits: FakeDAV.Traits) async throws {
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        _ = try await provider.put(PutRequest(key: "d/", precondition: .absent), from: BytesSource([]))
        _ = try await provider.put(PutRequest(key: "d/x"), from: BytesSource("x"))
        #expect(try await provider.delete([DeleteRequest("d/")]).map(\.error.code) == [.notEmpty])
        // A file's key never takes a folder.
        #expect(try await provider.delete([DeleteRequest("d")]).isEmpty)
        #expect(fake.node("/dav/d/x") != nil)
        _ = try await provider.delete([DeleteRequest("d/x")])
        fake.before.withLock {
            $0 = { fake, request in
                if ["MOVE", "DELETE"].contains(request.method), request.path == "/dav/d/" { fake.put("/dav/d/y", "y") }
                return nil
            }
        }
        #expect(try await provider.delete([DeleteRequest("d/")]).map(\.error.code) == [.notEmpty])
        fake.before.withLock { $0 = nil }
        #expect(fake.node("/dav/d/y")?.bytes == Array("y".utf8))
        _ = try await provider.delete([DeleteRequest("d/y")])
        #expect(try await provider.delete([DeleteRequest("d/"), DeleteRequest("d/")]).isEmpty)
        #expect(fake.paths == ["/dav", "/dav/.cloudmount"])
    }

    @Test("A file does not replace a folder, whatever the caller allows", arguments: sides)
    func fileOverFolder(traits: FakeDAV.Traits) async throws {
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        fake.makeFolder("/dav/d")
        fake.put("/dav/d/x", "x")
        for precondition in [Precondition.none, .absent] {
            let error = await failure { () async throws(VFSError) in
                try await provider.put(PutRequest(key: "d", precondition: precondition), from: BytesSource("file"))
            }
            #expect(error?.code == (precondition == .none ? .isDirectory : .preconditionFailed))
        }
        #expect(fake.node("/dav/d/x") != nil)
    }

    @Test("A write whose answer was lost is known again, with and without metadata", arguments: sides)
    func lostAnswer(traits: FakeDAV.Traits) async throws {
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        let request = PutRequest(
            key: "a", metadata: ObjectMetadata(nonce: ObjectMetadata.newNonce()), precondition: .absent)
        let lost = Atomic(false)
        fake.before.withLock {
            $0 = { fake, request in
                guard request.method == "MOVE", !lost.exchange(true, ordering: .relaxed) else { return nil }
                _ = fake.carryOutAlone(request)
                return ScriptedAnswer(status: 504)
            }
        }
        let first = await failure { () async throws(VFSError) in
            try await provider.put(request, from: BytesSource("ours"))
        }
        #expect(first?.code == .unavailable)
        let again = try await provider.put(request, from: BytesSource("ours"))
        #expect(try await provider.head("a").etag == again.etag)
    }

    @Test("Missing folders above are made, and a file among them is told")
    func parents() async throws {
        let fake = FakeDAV()
        let (provider, _) = try await prepared(fake, prefix: "p/q/")
        #expect(fake.node("/dav/p/q/.cloudmount") != nil)
        _ = try await provider.put(PutRequest(key: "p/q/a/b/c"), from: BytesSource("x"))
        #expect(fake.node("/dav/p/q/a/b/c") != nil)
        let error = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "p/q/a/b/c/d"), from: BytesSource("x"))
        }
        #expect(error?.code == .notDirectory)
    }

    @Test("The folder for unfinished things is shown to nobody, made again when it goes, and swept")
    func area() async throws {
        let fake = FakeDAV()
        let (provider, server) = try await prepared(fake)
        _ = try await provider.put(PutRequest(key: "a"), from: BytesSource("x"))
        fake.put("/dav/.cloudmount/put-old", "left")
        #expect(try await provider.list(ListRequest(prefix: "", delimited: true)).commonPrefixes == [])
        #expect(try await provider.list(ListRequest(prefix: "", delimited: false)).objects.map(\.key) == ["a"])
        let error = await failure { () async throws(VFSError) in try await provider.head(".cloudmount/put-old") }
        #expect(error?.code == .invalidName)
        fake.remove("/dav/.cloudmount")
        let copied = try await provider.copy(CopyRequest(source: provider.head("a"), destination: "b"))
        #expect(copied.size == 1)
        fake.remove("/dav/.cloudmount")
        _ = try await provider.put(PutRequest(key: "c"), from: BytesSource("x"))
        withExtendedLifetime(server) {}
    }

    @Test("No room is a quota, and the file that it was for is as it was")
    func quota() async throws {
        var traits = FakeDAV.Traits()
        traits.room = 10
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        let old = try await provider.put(PutRequest(key: "a"), from: BytesSource("old"))
        let error = await failure { () async throws(VFSError) in
            try await provider.put(PutRequest(key: "a"), from: BytesSource("more than there is room for"))
        }
        #expect(error?.code == .quotaExceeded && error?.retry == .never)
        #expect(try await text(provider, "a", old.etag) == "old")
    }

    @Test("Without tags a version is time and size, and is read by those")
    func noTags() async throws {
        var traits = FakeDAV.Traits()
        (traits.hasTags, traits.conditions, traits.properties, traits.putTellsTag) = (false, false, false, false)
        let fake = FakeDAV(traits)
        let (provider, _) = try await prepared(fake)
        let stored = try await provider.put(PutRequest(key: "a"), from: BytesSource("0123456789"))
        #expect(stored.etag == ETag("m1700000000-10"))
        let sink = CollectingSink()
        _ = try await provider.read(
            ReadRequest(key: "a", extent: Extent(2, 5), version: stored.etag), into: sink)
        #expect(sink.text == "234")
        fake.put("/dav/a", "shorter")
        let error = await failure { () async throws(VFSError) in
            try await provider.read(ReadRequest(key: "a", version: stored.etag), into: CollectingSink())
        }
        #expect(error?.code == .stale)
    }

    @Test("A large file goes in parts, as Nextcloud takes them", arguments: [true, false])
    func chunks(isAllowed: Bool) async throws {
        let fake = FakeDAV()
        let home = "/remote.php/dav/files/me"
        for path in ["/remote.php", "/remote.php/dav", "/remote.php/dav/files", home, "/remote.php/dav/uploads"] {
            fake.makeFolder(path)
        }
        fake.makeFolder("/remote.php/dav/uploads/me")
        let (provider, _) = try await prepared(
            fake, folder: home, options: isAllowed ? [:] : ["nextcloud_chunks": .boolean(false)])
        #expect(provider.capabilities.multipart == isAllowed)
        guard isAllowed else { return }
        let metadata = ObjectMetadata(user: ["mode": "33188"], nonce: "n1")
        let upload = try await provider.beginUpload("big", metadata: metadata)
        var parts: [UploadedPart] = []
        for (number, text) in [(1, "one"), (2, "two"), (10, "ten")] {
            parts.append(try await provider.uploadPart(upload, number: number, from: BytesSource(text)))
        }
        #expect(try await provider.listParts(upload) == parts)
        let wrong = await failure { () async throws(VFSError) in
            try await provider.completeUpload(upload, parts: [parts[0]], precondition: .absent)
        }
        #expect(wrong?.code == .invalidArgument)
        let stored = try await provider.completeUpload(upload, parts: parts, precondition: .absent)
        #expect(try await text(provider, "big", stored.etag) == "onetwoten")
        #expect(try await provider.head("big").metadata == metadata)
        let gone = await failure { () async throws(VFSError) in
            try await provider.uploadPart(upload, number: 1, from: BytesSource("x"))
        }
        #expect(gone?.code == .uploadNotFound)
        let second = try await provider.beginUpload("big", metadata: metadata)
        try await provider.abortUpload(second)
        try await provider.abortUpload(second)
        #expect(fake.paths.filter { $0.contains("uploads/me/") } == [])
    }
}
