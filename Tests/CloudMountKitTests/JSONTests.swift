import CloudMountKit
import TestSeeds
import Testing

@Suite("JSON")
struct JSONTests {
    private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test("Members are read by their names, and the others passed over")
    func members() {
        struct File: Equatable {
            var name = ""
            var size = 0
            var info: [String: String] = [:]
            var parts: [Int] = []
            var isOpen = false
            var type: String? = ""
        }
        let text = """
            {"x": [1, 2.5e3, {"a": null}], "name": "a/\\u00fc\\ud83d\\ude80\\n", "size": -12 ,"info": {"k": "v", "n": 1},
             "parts":[3,4], "isOpen": true, "type": null, "last": -0.5}
            """
        let file = JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in
            var file = File()
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "name": file.name = try reader.string()
                case "size": file.size = try reader.integer()
                case "info": file.info = try reader.strings()
                case "parts": try reader.array { reader throws(JSONError) in file.parts.append(try reader.integer()) }
                case "isOpen": file.isOpen = try reader.boolean()
                case "type": file.type = try reader.optionalString()
                default: try reader.skip()
                }
            }
            return file
        }
        #expect(
            file
                == File(name: "a/ü🚀\n", size: -12, info: ["k": "v"], parts: [3, 4], isOpen: true, type: nil))
    }

    @Test(
        "The kind of a value is seen before it is read",
        arguments: [
            ("{}", .object), (" [1]", .array), ("\"s\"", .string), ("-1", .number), ("7", .number), ("false", .boolean),
            ("null", .null), ("", nil), ("?", nil),
        ] as [(String, JSONReader.Kind?)])
    func kind(text: String, kind: JSONReader.Kind?) {
        let seen = JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in
            let kind = reader.kind()
            if kind != nil { try reader.skip() }
            return kind
        }
        #expect((seen ?? nil) == kind)
    }

    @Test(
        "What is no JSON, or of another kind than was asked for, is refused",
        arguments: [
            "", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":1,}", "{\"a\":1}x", "[1}", "{\"a\" 1}", "nul",
            "{\"a\":tru}",
            "\"\\u12\"", "\"\\ud83d\"", "\"\\x\"", "\"\\", "1.", String(repeating: "[", count: 100),
        ])
    func broken(text: String) {
        let object: Void? = JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in
            try reader.object { reader, _ throws(JSONError) in try reader.skip() }
        }
        #expect(object == nil)
        #expect(JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in try reader.string() } == nil)
        #expect(JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in try reader.integer() } == nil)
    }

    @Test(
        "Numbers have 64 bits and no fraction",
        arguments: [
            ("9223372036854775807", Int.max), ("9223372036854775808", nil), ("1.5", nil), ("1e3", nil), ("-7", -7),
            ("-", nil),
        ] as [(String, Int?)])
    func numbers(text: String, number: Int?) {
        #expect(JSONReader.read(Self.bytes(text)) { reader throws(JSONError) in try reader.integer() } == number)
    }

    @Test("What is written is read back")
    func roundTrip() {
        var inner = JSONObject()
        inner.add("quote", "\"\\/\u{1}\n\u{7F}ü")
        var object = JSONObject()
        object.add("none", nil as String?)
        object.add("inner", inner)
        object.add("no", nil as JSONObject?)
        object.add("n", -5)
        object.add("list", ["a", "\"b"])
        let read = JSONReader.read(object.bytes) { reader throws(JSONError) in
            var seen: [String] = []
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "inner": for (name, value) in try reader.strings() { seen.append("\(name)=\(value)") }
                case "n": seen.append("\(try reader.integer())")
                case "list": try reader.array { reader throws(JSONError) in seen.append(try reader.string()) }
                default:
                    seen.append("another")
                    try reader.skip()
                }
            }
            return seen
        }
        #expect(read == ["quote=\"\\/\u{1}\n\u{7F}ü", "-5", "a", "\"b"])
        #expect(JSONObject().bytes == Self.bytes("{}"))
    }

    @Test("Damaged text gives an error or a value")
    func damaged() {
        let samples = ["{\"a\": [1, -2.5e3, {\"b\": \"\\u00fc\\ud83d\\ude80\\n\"}], \"c\": true, \"d\": null}"]
        var whole = 0
        for bytes in Damage(samples, marks: "{}[]:,\"\\u/bfnrteE+-.0truefalsnl \n", count: 20_000) {
            let read: Void? = JSONReader.read(bytes) { reader throws(JSONError) in
                try reader.object { reader, name throws(JSONError) in
                    switch name {
                    case "a": try reader.array { reader throws(JSONError) in try reader.skip() }
                    case "c": _ = try reader.boolean()
                    case "d": _ = try reader.optionalString()
                    default: try reader.skip()
                    }
                }
            }
            if read != nil { whole += 1 }
        }
        #expect(whole > 100)
    }
}
