import CloudMountXML
import TestSeeds
import Testing

/// Writes down what it was given, one line an event.
private final class Recorder: XMLHandler {
    var lines: [String] = []

    func start(_ name: XMLText, depth: Int) { lines.append("<\(depth) \(name.string)") }
    func end(_ name: XMLText, text: XMLText, depth: Int) { lines.append(">\(depth) \(name.string)=\(text.string)") }
}

private func events(_ document: String, _ reader: XMLReader = XMLReader()) throws -> [String] {
    let recorder = Recorder()
    try reader.read(Array(document.utf8), into: recorder)
    return recorder.lines
}

@Suite("XML reader")
struct XMLReaderTests {
    @Test("Elements come in order with their depth and text")
    func elements() throws {
        let document = """
            <?xml version="1.0" encoding="UTF-8"?>
            <Result xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Key a="1">x &amp; y</Key><Empty/></Result>
            """
        #expect(
            try events(document) == [
                "<1 Result", "<2 Key", ">2 Key=x & y", "<2 Empty", ">2 Empty=", ">1 Result=",
            ])
    }

    @Test("Names come with their namespace, whatever its prefix; without one, or with one never declared, it is empty")
    func namespaces() throws {
        final class Spaces: XMLHandler {
            var lines: [String] = []
            func start(_ name: XMLText, in space: XMLText, depth: Int) {
                lines.append("<{\(space.string)}\(name.string)")
            }
            func end(_ name: XMLText, in space: XMLText, text: XMLText, depth: Int) {
                lines.append(">{\(space.string)}\(name.string)=\(text.string)")
            }
        }
        let handler = Spaces()
        let document = """
            <D:a xmlns:D="DAV:"><b xmlns="urn:b">1</b><c xmlns:D="urn:d"><D:d/></c><E:e>2</E:e></D:a>
            """
        try XMLReader().read(Array(document.utf8), into: handler)
        #expect(
            handler.lines == [
                "<{DAV:}a", "<{urn:b}b", ">{urn:b}b=1", "<{}c", "<{urn:d}d", ">{urn:d}d=", ">{}c=", "<{}e",
                ">{}e=2", ">{DAV:}a=",
            ])
    }

    @Test("Built-in entities, character references and CDATA are resolved")
    func references() throws {
        #expect(
            try events("<a>&lt;&gt;&amp;&quot;&apos;&#10;&#xE9;<![CDATA[<&>]]></a>").last
                == ">1 a=<>&\"'\n\u{E9}<&>")
    }

    @Test("Text is the bytes that were sent, composed or decomposed")
    func normalisation() throws {
        let recorder = Recorder()
        try XMLReader().read(Array("<a>e\u{301}</a>".utf8), into: recorder)
        #expect(Array((recorder.lines.last ?? "").utf8) == Array(">1 a=e\u{301}".utf8))
    }

    @Test("Leading white space before the declaration is an error, after it is not")
    func whitespace() throws {
        #expect(try events("\n\n  <a/>\n") == ["<1 a", ">1 a="])
        #expect(throws: XMLError.self) { try events(" <?xml version=\"1.0\"?><a/>") }
    }

    @Test(
        "What is not well-formed to its end is an error",
        arguments: [
            "", " ", "<", "<a>", "<a><b></a>", "<a></a", "<a/><b/>", "plain text", "<a>&nope;</a>", "<a>\u{1}</a>",
            "<a>&#1;</a>", "<a b=1/>", "<html><br></html>", "<a>x</a>trailing",
        ])
    func malformed(document: String) {
        #expect(throws: XMLError.self) { try events(document) }
    }

    @Test("Every proper prefix of a document is an error")
    func truncated() throws {
        let document = Array("<Result><Key>a&amp;b</Key><Size>1</Size></Result>".utf8)
        for count in 0..<document.count {
            let recorder = Recorder()
            #expect(throws: XMLError.self, "cut after \(count) bytes") {
                try XMLReader().read(Array(document[..<count]), into: recorder)
            }
        }
    }

    @Test("Bytes that are not UTF-8 are an error")
    func invalidUTF8() {
        let recorder = Recorder()
        #expect(throws: XMLError.self) {
            try XMLReader().read([0x3C, 0x61, 0x3E, 0xFF, 0xFE, 0x80, 0x3C, 0x2F, 0x61, 0x3E], into: recorder)
        }
    }

    @Test("A document type is refused before anything in it is read")
    func doctype() {
        let bomb = """
            <!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><lolz>&b;</lolz>
            """
        let outside = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"
        let remote = "<!DOCTYPE a SYSTEM \"http://127.0.0.1:1/never.dtd\"><a/>"
        for document in [bomb, outside, remote] {
            #expect(throws: XMLError.doctype) { try events(document) }
        }
    }

    @Test("Depth is limited")
    func depth() throws {
        func nested(_ count: Int) -> String {
            String(repeating: "<a>", count: count) + String(repeating: "</a>", count: count)
        }
        var reader = XMLReader()
        reader.maxDepth = 4
        #expect(try events(nested(4), reader).count == 8)
        #expect(throws: XMLError.tooDeep) { try events(nested(5), reader) }
        #expect(throws: XMLError.tooDeep) { try events(nested(100_000)) }
    }

    @Test("A namespace is no longer than one is, for it is told again with each name")
    func longNamespace() throws {
        let space = String(repeating: "a", count: 256)
        #expect(try events("<x xmlns=\"\(space)\"><y/></x>").count == 4)
        let long = "<x xmlns=\"\(space)a\">" + String(repeating: "<y/>", count: 1000) + "</x>"
        #expect(throws: XMLError.tooLarge) { try events(long) }
        let prefixed = "<x xmlns:p=\"\(space)a\"><y><p:z/></y></x>"
        #expect(throws: XMLError.tooLarge) { try events(prefixed) }
    }

    private static func tag(attributes count: Int, _ attribute: (Int) -> String) -> String {
        "<a" + (0..<count).map { " " + attribute($0) }.joined() + "/>"
    }

    @Test("A tag has no more attributes than one has, for libxml2 holds each against all others")
    func manyAttributes() throws {
        #expect(try events(Self.tag(attributes: 512) { "a\($0)='>'" }).count == 2)
        for count in [513, 50_000] {
            #expect(throws: XMLError.tooLarge) { try events(Self.tag(attributes: count) { "a\($0)=\"/>\"" }) }
            #expect(throws: XMLError.tooLarge) { try events(Self.tag(attributes: count) { "xmlns:a\($0)='u'" }) }
            // Behind what only looks like the tag's end, or like none.
            let tag = Self.tag(attributes: count) { "a\($0)='\"'" }
            for start in [
                "<!-- ' -->", "<![CDATA[<x y=\"]]>", "<?p <x '?>", "\" > '", "<b c='\">'/>", "&quot;", "</x y='",
            ] {
                #expect(throws: XMLError.tooLarge) { try events("<r>\(start)\(tag)</r>") }
            }
        }
    }

    @Test("Quotes outside of tags are any number, and so are namespaces one after the other")
    func manyQuotes() throws {
        let text = String(repeating: "\"'", count: 1000)
        #expect(try events("<a b='1'>\(text)<!-- \(text) --><?p \(text)?></a>").last?.utf8.count == 2005)
        let below = (0..<200).map { "<x:b xmlns:x='urn:\($0)'/>" }.joined()
        #expect(try events("<a>\(below)</a>").count == 402)
    }

    @Test("No more namespaces are in force than 512, for each prefix is looked up among all of them")
    func manyNamespaces() throws {
        func nested(_ each: Int) -> String {
            let tags = (0..<8).map { level in
                "<b" + (0..<each).map { " xmlns:p\(level)x\($0)='u'" }.joined() + ">"
            }
            return tags.joined() + String(repeating: "</b>", count: 8)
        }
        #expect(try events(nested(64)).count == 16)
        #expect(throws: XMLError.tooLarge) { try events(nested(65)) }
        // A fault does not end libxml2's reading.
        #expect(throws: XMLError.self) { try events("<a>&nope;\(nested(100))</a>") }
    }

    @Test(
        "Errors of namespaces, each of which libxml2 puts into words, end the reading when there are many",
        arguments: [0, 1])
    func namespaceErrors(kind: Int) throws {
        func document(_ count: Int, _ length: Int) -> String {
            let (name, space) = (String(repeating: "n", count: length), String(repeating: "u", count: length))
            let start = "<x xmlns:p=\"\(space)\" xmlns:q=\"\(space)\" xmlns:r=\"no URI\">"
            // An attribute twice by its namespace, or one whose prefix nobody has declared.
            let tag = kind == 0 ? "<y p:a=\"\" q:a=\"\"/>" : "<\(name) o:a=\"\"/>"
            return start + String(repeating: tag, count: count) + "</x>"
        }
        #expect(try events(document(9_000, 100)).count == 18_002)
        #expect(throws: XMLError.tooLarge) { try events(document(20_000, 100)) }
        #expect(throws: XMLError.tooLarge) { try events(document(2, 5000)) }
    }

    @Test("Tags, and the names and values in them, have an end")
    func longTags() throws {
        let text = String(repeating: "u", count: 5000)
        #expect(try events("<x a=\"\(text.prefix(4000))\">\(text)<!-- \(text) --></x>").count == 2)
        for tag in [
            "<\(text)/>", "<x \(text)=\"\"/>", "<x a='\(text)'/>", "<x" + String(repeating: " ", count: 2 << 20) + "/>",
        ] {
            #expect(throws: XMLError.tooLarge) { try events(tag) }
        }
    }

    @Test("A fault ends the reading, however much comes after it", arguments: ["&", "<", "\u{1}", "</x>"])
    func faults(fault: String) {
        let rest = String(repeating: fault, count: 100_000)
        #expect(throws: XMLError.self) { try events("<a>" + rest + "<b/></a>") }
        #expect(throws: XMLError.self) { try events("<a b=\"" + rest + "\"/>") }
        // One at the very end is one too.
        let long = String(repeating: "<b>text</b>", count: 10_000)
        #expect(throws: XMLError.self) { try events("<a>" + long + fault + "</a>") }
        #expect((try? events("<a>" + long + "</a>").count) == 20_002)
    }

    @Test("What is broken is handed on no further than to the fault")
    func elementsAfterFault() {
        let recorder = Recorder()
        #expect(throws: XMLError.self) {
            try XMLReader().read(Array("<a><b/>&nope;<c/><d/></a>".utf8), into: recorder)
        }
        #expect(!recorder.lines.contains { $0.hasSuffix("c") || $0.hasSuffix("d") })
    }

    @Test(
        "A document is UTF-8, whatever it says; in another encoding a tag would hide from who counts its attributes",
        arguments: ["UTF-16LE", "UTF-16BE", "UTF-7", "ISO-8859-1", "EBCDIC", "none"])
    func encodings(name: String) throws {
        #expect(try events("<?xml version='1.0' encoding='\(name)'?><a>b</a>") == ["<1 a", ">1 a=b"])
        let said = "<?xml version='1.0' encoding='\(name)'?><a>é</a>"
        #expect(throws: XMLError.self) { try events(said) }
        #expect(try events("<?xml version='1.0' encoding='utf8'?><a>é</a>") == ["<1 a", ">1 a=é"])
        #expect(try events("\u{FEFF}<?xml version='1.0' encoding='Utf-8'?><a>é</a>") == ["<1 a", ">1 a=é"])
        for isLittle in [true, false] {
            let wide = "\u{FEFF}<a>b</a>".utf16.flatMap { unit in
                let bytes = [UInt8(unit & 0xFF), UInt8(unit >> 8)]
                return isLittle ? bytes : bytes.reversed()
            }
            #expect(throws: XMLError.self) { try XMLReader().read(wide, into: Recorder()) }
        }
    }

    @Test("Size is limited")
    func size() {
        var reader = XMLReader()
        reader.maxBytes = 10
        #expect(throws: XMLError.tooLarge) { try events("<a>0123456789</a>", reader) }
    }

    @Test("Names compare with literals byte by byte")
    func names() {
        let bytes = Array("Key".utf8)
        bytes.withUnsafeBufferPointer { buffer in
            let text = XMLText(buffer)
            #expect(text == "Key")
            #expect(text != "Keys")
            #expect(text != "key")
            #expect(XMLText(UnsafeBufferPointer(start: nil, count: 0)) == "")
        }
    }

    @Test(
        "Numbers are decimal, whole and in range",
        arguments: [
            ("0", 0), ("42", 42), ("9223372036854775807", Int.max), ("9223372036854775808", nil), ("", nil),
            ("-1", nil), (" 1", nil), ("1 ", nil), ("1.0", nil), ("0x1", nil),
        ] as [(String, Int?)])
    func numbers(text: String, value: Int?) {
        let bytes = Array(text.utf8)
        bytes.withUnsafeBufferPointer { #expect(XMLText($0).integer == value) }
    }

    @Test("A document that cannot be converted says nothing on standard error")
    func quiet() async throws {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            for start: [UInt8] in [[0xFF, 0xFE], [0xFE, 0xFF], [0, 0, 0, 0x3C], [0x4C, 0x6F, 0xA7, 0x94]] {
                let bytes = start + Array("<?xml version='1.0' encoding='EBCDIC-INT'?><R/>".utf8) + [0xD8, 0, 0xD8, 0]
                _ = try? XMLReader().read(bytes, into: Recorder())
                _ = try? XMLReader().read(start + [0x3C, 0, 0xFB, 0xDB, 0, 0, 0, 0, 0xED, 0xED], into: Recorder())
            }
        }
        let said = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(!said.contains("error :"))
    }

    @Test("Damage never gets past as something else than an error or a document")
    func damage() {
        let samples = [
            "<?xml version=\"1.0\"?><R><C><Key>a&amp;b</Key></C><C/><!-- c --></R>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R xmlns=\"u\"><K a='1'>&#x1F680;&#65;<![CDATA[x]]></K><?p q?></R>",
        ]
        for bytes in Damage(samples, marks: "<>/&;#x?!-[]'\"= \n", count: 8000) {
            let recorder = Recorder()
            do {
                try XMLReader().read(bytes, into: recorder)
                #expect(recorder.lines.filter { $0.hasPrefix("<") }.count * 2 == recorder.lines.count)
            } catch {}
        }
    }
}
