/// A place in the file; both count from 1, columns in characters.
struct Mark: Sendable, Hashable, Comparable {
    var line: Int
    var column: Int

    static func < (left: Mark, right: Mark) -> Bool { (left.line, left.column) < (right.line, right.column) }
}

/// A node of the YAML tree, with the place where it begins. An alias is the node it names, shared.
final class Node: Sendable {
    struct Scalar: Sendable {
        var text: String
        /// Written without quotes.
        var plain: Bool
    }

    struct Pair: Sendable {
        var key: String
        var keyMark: Mark
        var value: Node
    }

    enum Content: Sendable {
        case scalar(Scalar)
        case sequence([Node])
        case mapping([Pair])
    }

    let mark: Mark
    let content: Content
    /// Nodes in this tree if every alias were written out; what an alias bomb would cost.
    let weight: Int

    init(_ content: Content, at mark: Mark) {
        self.content = content
        self.mark = mark
        let children =
            switch content {
            case .scalar: [Node]()
            case .sequence(let nodes): nodes
            case .mapping(let pairs): pairs.map(\.value)
            }
        weight = children.reduce(1) { sum, child in min(sum + child.weight, 1 << 40) }
    }

    /// Nothing after the colon, `~` or `null`.
    var isNull: Bool {
        guard case .scalar(let scalar) = content, scalar.plain else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.text)
    }

    /// For "found …" in messages. Never the text itself: it may be a secret.
    var kindName: String {
        switch content {
        case .scalar: isNull ? "nothing" : "text"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}
