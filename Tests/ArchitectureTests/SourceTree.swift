import Foundation

/// The package's own text, as the architecture tests read it.
struct SourceTree {
    struct File {
        /// Below the package's root.
        let path: String
        let lines: [String]

        /// The lines that are not comments, with their numbers from 1.
        var code: [(number: Int, text: String)] {
            lines.enumerated().compactMap { index, line in
                let text = line.drop { $0 == " " }
                return text.hasPrefix("//") ? nil : (index + 1, line)
            }
        }

        /// Names of the imported modules, with line numbers.
        var imports: [(number: Int, module: String)] {
            code.compactMap { number, text in
                var words = text.split(separator: " ").map(String.init)
                while let first = words.first, first != "import" {
                    guard first.hasPrefix("@") || Self.modifiers.contains(first) else { return nil }
                    words.removeFirst()
                }
                guard words.count >= 2 else { return nil }
                // `import struct Module.Name` names the module before the dot.
                let name = words.count >= 3 && !words[2].hasPrefix("//") ? words[2] : words[1]
                return (number, String(name.prefix { $0 != "." }))
            }
        }

        private static let modifiers: Set<String> = ["public", "package", "internal", "fileprivate", "private"]
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// All files below `folder` with one of the extensions, in order of their paths.
    static func files(below folder: String, extensions: Set<String> = ["swift"]) throws -> [File] {
        let base = root.appending(path: folder)
        guard let walk = FileManager.default.enumerator(atPath: base.path) else { return [] }
        var result: [File] = []
        for case let name as String in walk where extensions.contains((name as NSString).pathExtension) {
            let text = try String(contentsOf: base.appending(path: name), encoding: .utf8)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            result.append(File(path: "\(folder)/\(name)", lines: lines.last == "" ? lines.dropLast() : lines))
        }
        return result.sorted { $0.path < $1.path }
    }

    /// Names of the folders in `folder`.
    static func folders(in folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(
            at: root.appending(path: folder), includingPropertiesForKeys: [.isDirectoryKey]
        )
        .filter { try $0.resourceValues(forKeys: [.isDirectoryKey]).isDirectory ?? false }
        .map(\.lastPathComponent).sorted()
    }

    static func text(of path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appending(path: path).path)
    }
}
