/// The lines of a `mounts.yaml`, to be changed where its mounts stand, one to a line or to several.
struct MountsText {
    private var lines: [String]
    private let lineEnd: String
    private let tree: Node?

    /// - Parameter tree: of `text`.
    init(_ text: String, _ tree: Node?) {
        let parts = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
        lineEnd = parts.contains { $0.last == "\r" } ? "\r\n" : "\n"
        lines = parts.map { String($0.last == "\r" ? $0.dropLast() : $0) }
        if text.utf8.last == UInt8(ascii: "\n") { lines.removeLast() }
        self.tree = tree
    }

    var text: String { lines.joined(separator: lineEnd) + lineEnd }

    /// The same with one mount more, behind the others.
    /// - Returns: nil where the list is not written line by line; else with the number of the new line.
    func inserting(_ entry: String) -> (text: String, line: Int)? {
        var changed = self
        guard case .mapping(let pairs)? = tree?.content, let pair = pairs.first(where: { $0.key == "mounts" }) else {
            if let tree, !tree.isNull, case .mapping = tree.content {} else { return nil }
            changed.lines += ["mounts:", "  - \(entry)"]
            return (changed.text, changed.lines.count)
        }
        var indent = "  "
        if case .sequence(let items) = pair.value.content, let first = items.first {
            guard let dashes = dash(first) else { return nil }
            indent = dashes
        } else if !pair.value.isNull {
            return nil
        }
        guard let section = section(pair, among: pairs), let last = lastContent(of: section) else { return nil }
        changed.lines.insert("\(indent)- \(entry)", at: last + 1)
        return (changed.text, last + 2)
    }

    /// The same without a mount. Comments stay, but those within it.
    /// - Returns: nil where the list is not written line by line.
    func removing(_ name: String) -> String? {
        guard case .mapping(let pairs)? = tree?.content, let pair = pairs.first(where: { $0.key == "mounts" }),
            case .sequence(let items) = pair.value.content, let section = section(pair, among: pairs),
            let index = items.firstIndex(where: { Self.name(of: $0) == name }), dash(items[index]) != nil
        else { return nil }
        let begin = items[index].mark.line - 1
        let next = index + 1 < items.count ? items[index + 1].mark.line - 1 : section.upperBound
        guard section.contains(begin), begin < next, next <= section.upperBound,
            let last = lastContent(of: begin..<next)
        else { return nil }
        var changed = self
        changed.lines.removeSubrange(begin...last)
        return changed.text
    }

    private static func name(of item: Node) -> String? {
        guard case .mapping(let pairs) = item.content,
            case .scalar(let scalar)? = pairs.first(where: { $0.key == "name" })?.value.content
        else { return nil }
        return scalar.text
    }

    /// What stands before the dash of an item that begins a line.
    private func dash(_ item: Node) -> String? {
        guard lines.indices.contains(item.mark.line - 1) else { return nil }
        let line = lines[item.mark.line - 1]
        let indent = String(line.prefix { $0 == " " })
        return line.dropFirst(indent.count).hasPrefix("-") ? indent : nil
    }

    /// The lines, from 0, of a key at the top of the file and of its value.
    private func section(_ pair: Node.Pair, among pairs: [Node.Pair]) -> Range<Int>? {
        let begin = pair.keyMark.line
        let next = pairs.map(\.keyMark.line).filter { $0 > begin }.min() ?? lines.count + 1
        guard begin < next, next <= lines.count + 1 else { return nil }
        let section = lines[(begin - 1)..<(next - 1)].prefix { $0 != "..." && $0 != "---" }
        return section.indices
    }

    private func lastContent(of range: Range<Int>) -> Int? {
        lines[range].lastIndex { line in
            line.first { $0 != " " && $0 != "\t" }.map { $0 != "#" } ?? false
        }
    }
}
