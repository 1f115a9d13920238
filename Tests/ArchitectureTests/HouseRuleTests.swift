import Testing

@Suite("Rules of the house")
struct HouseRuleTests {
    @Test("No file has more than 600 lines")
    func fileLength() throws {
        var long: [String] = []
        for folder in ["Sources", "Plugins", "Tests"] {
            long += try SourceTree.files(below: folder, extensions: ["swift", "h", "py", "sh"])
                .filter { $0.lines.count > 600 }.map { "\($0.path): \($0.lines.count) lines" }
        }
        #expect(long == [])
    }

    @Test(
        "No type of the core, and none of the layers and the providers, has more than 600 lines with all its extensions"
    )
    func typeLength() throws {
        var lines: [String: Int] = [:]
        let modules = [
            "Filesystem", "Commit", "Staging", "Platform", "Layers", "Kit", "Daemon", "Config", "FUSE", "HTTP",
            "Cache",
        ]
        let providers = try SourceTree.folders(in: "Plugins").map { "Plugins/\($0)" }
        for folder in modules.map({ "Sources/CloudMount\($0)" }) + providers {
            for file in try SourceTree.files(below: folder) {
                let module = file.path.split(separator: "/").dropFirst().first ?? ""
                for (name, count) in Self.types(file.lines) { lines["\(module).\(name)", default: 0] += count }
            }
        }
        #expect(lines.count > 80)
        #expect(lines.filter { $0.value > 600 }.map { "\($0.key): \($0.value) lines" } == [])
    }

    /// Types and extensions that begin at the margin, with their lines.
    private static func types(_ lines: [String]) -> [(name: String, count: Int)] {
        let kinds: Set<String> = ["class", "struct", "enum", "actor", "extension", "protocol"]
        var types: [(String, Int)] = []
        var open: (name: String, start: Int)?
        for (index, line) in lines.enumerated() {
            if let (name, start) = open, line.hasPrefix("}") {
                types.append((name, index - start + 1))
                open = nil
            } else if open == nil, line.first?.isLetter ?? false {
                let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init)
                guard let kind = words.firstIndex(where: kinds.contains), kind + 1 < words.count else { continue }
                open = (words[kind + 1], index)
            }
        }
        return types
    }

    @Test("The tree's lock is taken in its own room alone")
    func treeLock() throws {
        let wrong = try SourceTree.files(below: "Sources").filter { !$0.path.contains("CloudMountFilesystem/Tree/") }
            .flatMap { file in file.code.filter { $0.text.contains("withNames") }.map { "\(file.path):\($0.number)" } }
        #expect(wrong == [])
    }

    @Test("The compiler's checks of sharing are turned off only around C handles, each time with the reason")
    func unchecked() throws {
        let permitted = ["CloudMountPlatform", "CloudMountHTTP", "CloudMountFUSE", "CloudMountXML", "CloudMountCrypto"]
        var wrong: [String] = []
        for file in try SourceTree.files(below: "Sources") + SourceTree.files(below: "Plugins") {
            let isPermitted = permitted.contains { file.path.hasPrefix("Sources/\($0)/") }
            for (number, text) in file.code
            where text.contains("@unchecked Sendable") || text.contains("nonisolated(unsafe)") {
                let near = file.lines[max(0, number - 4)..<min(file.lines.count, number + 3)]
                if !isPermitted {
                    wrong.append("\(file.path):\(number): not in this module")
                } else if !near.contains(where: { $0.contains("// SAFETY:") }) {
                    wrong.append("\(file.path):\(number): no `// SAFETY:` beside it")
                }
            }
        }
        #expect(wrong == [])
    }

    @Test("No test is disabled, and none is skipped quietly")
    func disabledTests() throws {
        // Split, so that this file does not find itself.
        let words = [".dis" + "abled(", ".enab" + "led(if", "XCTS" + "kip", "#if fa" + "lse"]
        #expect(try places(of: words, in: ["Tests"]) == [])
    }

    @Test("Every folder of tests belongs to a target: none is left out of the build, and so passes")
    func targets() throws {
        let package = try SourceTree.text(of: "Package.swift")
        let forgotten = try SourceTree.folders(in: "Tests").filter { folder in
            try !SourceTree.files(below: "Tests/\(folder)").isEmpty
                && ![#"tests("\#(folder)""#, #""\#(folder)","#, #""Tests/\#(folder)""#].contains {
                    package.contains($0)
                }
        }
        #expect(forgotten == [])
    }

    @Test(
        "Ages are told by `elapsed(since:)`: another thread may have read the clock later, and an unsigned difference traps"
    )
    func clocks() throws {
        let difference = #/(?:\bnow|uptime|monotonic\(\)) - /#
        var found: [String] = []
        for module in ["Filesystem", "Cache", "Staging"] {
            for file in try SourceTree.files(below: "Sources/CloudMount\(module)") {
                // Seconds of the calendar have a sign.
                for (number, text) in file.code
                where text.contains(difference) && !text.contains(".modified") {
                    found.append("\(file.path):\(number)")
                }
            }
        }
        #expect(found == [])
    }

    @Test("Nothing is left for later in a comment")
    func leftovers() throws {
        var found: [String] = []
        for folder in ["Sources", "Plugins", "Tests"] {
            for file in try SourceTree.files(below: folder, extensions: ["swift", "h", "py", "sh"]) {
                for (index, line) in file.lines.enumerated() {
                    for word in ["TO" + "DO", "FIX" + "ME"] where line.contains(word) {
                        found.append("\(file.path):\(index + 1): \(word)")
                    }
                }
            }
        }
        #expect(found == [])
    }

    @Test("Types are named for what they are")
    func emptyNames() throws {
        let pattern =
            #/\b(?:class|struct|enum|actor|protocol|typealias)\s+(\w*(?:Manager|Helper|Util|Utils|Utility))\b/#
        var found: [String] = []
        for folder in ["Sources", "Plugins", "Tests"] {
            for file in try SourceTree.files(below: folder) {
                for (number, text) in file.code {
                    if let match = text.firstMatch(of: pattern) { found.append("\(file.path):\(number): \(match.1)") }
                }
            }
        }
        #expect(found == [])
    }

    private func places(of words: [String], in folders: [String]) throws -> [String] {
        var found: [String] = []
        for folder in folders {
            for file in try SourceTree.files(below: folder) {
                for (number, text) in file.code {
                    for word in words where text.contains(word) { found.append("\(file.path):\(number): \(word)") }
                }
            }
        }
        return found
    }
}
