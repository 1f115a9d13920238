import CloudMountCommit
import CloudMountStaging
import CloudMountVFS
import Testing

@Suite("What a failed commit means")
struct CommitVerdictTests {
    private func write(replacing version: String?, _ nonce: String = "ours") -> SealedWrite {
        SealedWrite(
            mount: "m", key: "f", replaces: version.map { ETag($0) }, attributes: StoredAttributes(),
            hasExplicitTime: false,
            layers: SealedWrite.Layers(image: FileImage(size: 5, baseSize: 0), base: nil, staged: nil), nonce: nonce)
    }

    private func object(_ version: String, size: Int = 5, nonce: String? = nil) -> ObjectInfo {
        var metadata = ObjectMetadata()
        metadata.nonce = nonce
        return ObjectInfo(
            key: "f", size: size, etag: ETag(version), stored: Timestamp(seconds: 1), metadata: metadata)
    }

    private func verdict(
        _ code: VFSError.Code, _ write: SealedWrite, _ there: ObjectInfo?, earlier: [WriteMark] = [],
        _ rule: CachePolicy.OnConflict = .keepBoth
    ) -> CommitVerdict { CommitVerdict(code, of: write, there: there, earlier: earlier, rule: rule) }

    @Test("An object with the write's nonce is the write, whatever the error said", arguments: VFSError.Code.allCases)
    func own(code: VFSError.Code) {
        #expect(verdict(code, write(replacing: "v1"), object("v2", nonce: "ours")) == .stored)
    }

    @Test("Equal size and no nonce, or another's, prove nothing")
    func foreign() {
        #expect(verdict(.preconditionFailed, write(replacing: "v1"), object("v2")) == .keepBoth)
        #expect(verdict(.preconditionFailed, write(replacing: nil), object("v2", nonce: "theirs")) == .keepBoth)
    }

    @Test("An earlier write of the file is known again; what others have stored by the rule only")
    func earlier() {
        let there = object("v2", size: 9, nonce: "before")
        func after(_ size: Int) -> CommitVerdict {
            let earlier = [WriteMark(nonce: "before", size: size)]
            return verdict(.preconditionFailed, write(replacing: "v1"), there, earlier: earlier)
        }
        #expect(after(9) == .earlier)
        // Another tool has changed the bytes and kept the metadata.
        #expect(after(8) == .keepBoth)
        #expect(verdict(.preconditionFailed, write(replacing: "v1"), there, .overwrite) == .replace)
        #expect(verdict(.preconditionFailed, write(replacing: "v1"), there, .fail) == .refuse)
    }

    @Test("What others have removed is in nobody's way")
    func removed() {
        #expect(verdict(.preconditionFailed, write(replacing: "v1"), nil) == .storeAnew)
        #expect(verdict(.notFound, write(replacing: "v1"), nil, .overwrite) == .storeAnew)
        #expect(verdict(.notFound, write(replacing: "v1"), nil, .fail) == .refuse)
    }

    @Test("An upload that the store has dropped is begun anew while the object is what it was")
    func dropped() {
        #expect(verdict(.uploadNotFound, write(replacing: "v1"), object("v1")) == .again)
        #expect(verdict(.uploadNotFound, write(replacing: nil), nil) == .again)
        #expect(verdict(.uploadNotFound, write(replacing: "v1"), object("v2")) == .keepBoth)
    }

    @Test("An error that says nothing of the object stays an error")
    func silent() {
        for code in [VFSError.Code.timedOut, .permissionDenied, .quotaExceeded, .unavailable] {
            #expect(verdict(code, write(replacing: "v1"), object("v2")) == .fail)
        }
    }

    @Test("A sealed write comes back from JSON as it was")
    func codable() throws {
        var sealed = write(replacing: "v1")
        sealed.layers.image.write(Extent(2, 9))
        sealed.layers.base = object("v1", nonce: "n")
        sealed.attributes.xattrs = ["user.a": [0, 255]]
        sealed.upload = nil
        #expect(try JSON.roundTrip(sealed) == sealed)
    }
}
