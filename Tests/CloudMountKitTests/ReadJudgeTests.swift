import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import TestSeeds
import Testing

@Suite("Whether an answer is what was asked for")
struct ReadJudgeTests {
    private func verdict(
        _ status: Int, _ headers: [(String, String)], _ extent: Extent?, version: String? = "e1"
    ) -> String {
        var fields = HTTPHeaders()
        for (name, value) in headers { fields.append(name, value) }
        let request = ReadRequest(key: "k", extent: extent, version: version.map { ETag($0) })
        switch ReadJudge(request, version: { $0["etag"].flatMap { ETag(header: $0) } }).verdict(
            HTTPResponseHead(status: status, headers: fields))
        {
        case .success(let object): return "\(object.size)"
        case .failure(let refusal): return "\(refusal)"
        }
    }

    private func head(_ length: Int, _ range: String? = nil, etag: String? = "\"e1\"") -> [(String, String)] {
        var headers = [("Content-Length", "\(length)")]
        if let etag { headers.append(("ETag", etag)) }
        if let range { headers.append(("Content-Range", range)) }
        return headers
    }

    @Test("Bytes are taken only when they are the ones that were asked for")
    func verdicts() {
        let middle = Extent(2, 5)
        #expect(verdict(206, head(3, "bytes 2-4/10"), middle) == "10")
        #expect(verdict(206, head(3, "bytes 2-4/10"), middle, version: nil) == "10")
        // The end of the object comes first.
        #expect(verdict(206, head(3, "bytes 2-4/5"), Extent(2, 50)) == "5")
        // The right range under the wrong status (rclone), or without its range.
        #expect(verdict(200, head(3, "bytes 2-4/10"), middle) == "10")
        #expect(verdict(206, head(3), middle) == "malformed")
        // Another range, another length.
        #expect(verdict(206, head(3, "bytes 1-3/10"), middle) == "malformed")
        #expect(verdict(206, head(2, "bytes 2-3/10"), middle) == "malformed")
        #expect(verdict(206, head(4, "bytes 2-5/10"), middle) == "malformed")
        #expect(verdict(206, head(9, "bytes 2-4/10"), middle) == "malformed")
        #expect(verdict(206, head(3, "bytes 2-4/*"), middle) == "malformed")
        #expect(verdict(206, head(3, "items 2-4/10"), middle) == "malformed")
        // The whole object.
        #expect(verdict(200, head(10), middle) == "ignoresRange")
        #expect(verdict(200, head(3), middle) == "ignoresRange")
        #expect(verdict(200, head(10), Extent(0, 5)) == "ignoresRange")
        #expect(verdict(200, head(5), Extent(0, 5)) == "5")
        #expect(verdict(200, head(4), Extent(0, 5)) == "4")
        // An empty one has no bytes, wherever the range begins.
        #expect(verdict(200, head(0), middle) == "0")
        #expect(verdict(200, head(10), nil) == "10")
        #expect(verdict(200, head(0), nil) == "0")
        #expect(verdict(206, head(10, "bytes 0-9/10"), nil) == "10")
        #expect(verdict(206, head(5, "bytes 0-4/10"), nil) == "malformed")
        // The version.
        #expect(verdict(206, head(3, "bytes 2-4/10", etag: "\"e2\""), middle) == "stale")
        #expect(verdict(206, head(3, "bytes 2-4/10", etag: "W/\"e1\""), middle) == "10")
        #expect(verdict(206, head(3, "bytes 2-4/10", etag: nil), middle) == "malformed")
        #expect(verdict(404, head(3), middle) == "malformed")
        #expect(verdict(200, [("ETag", "e1")], nil) == "malformed")
    }

    @Test("Any head is judged, and none ends the process")
    func damaged() {
        let head = "ETag: \"a\"\r\nContent-Length: 10\r\ncontent-range: bytes 5-14/100\r\n"
        let judge = ReadJudge(ReadRequest(key: "k", extent: Extent(5, 15))) { $0["etag"].map { ETag($0) } }
        var good = 0
        for bytes in Damage([head], marks: ":\r\n \t-/,\"bytes", count: 12_000) {
            var headers = HTTPHeaders()
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\r\n") {
                let parts = line.split(separator: ": ", maxSplits: 1).map(String.init)
                if parts.count == 2 { headers.append(parts[0], parts[1]) }
            }
            for status in [200, 206] {
                guard case .success(let found) = judge.verdict(HTTPResponseHead(status: status, headers: headers))
                else { continue }
                good += 1
                #expect(found.size >= 0)
            }
        }
        #expect(good > 100)
    }
}
