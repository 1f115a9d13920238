extension Unicode.Scalar {
    /// It controls no terminal, begins no line, and shows no other text in another order than it has.
    public var isPrintable: Bool {
        switch value {
        case 0..<0x20, 0x7F...0x9F, 0x2028...0x202E, 0x2066...0x2069: false
        default: true
        }
    }
}

extension StringProtocol {
    /// The text of a store or of another machine, which may be of any length, as far as a person would read it.
    /// - Parameter most: Unicode scalars; a letter with its accents may be any number of them.
    public func cut(to most: Int) -> String {
        let scalars = unicodeScalars
        guard utf8.count > most,
            let end = scalars.index(scalars.startIndex, offsetBy: most, limitedBy: scalars.endIndex),
            end != scalars.endIndex
        else { return String(self) }
        return String(self[..<end]) + "…"
    }

    /// The text of a store, of another program or of another machine as a terminal and a log may show it: what is not printable is
    /// written out, as `\u{9b}`.
    public var printable: String {
        if unicodeScalars.allSatisfy(\.isPrintable) { return String(self) }
        return unicodeScalars.reduce(into: "") { result, scalar in
            if scalar.isPrintable {
                result.unicodeScalars.append(scalar)
            } else {
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            }
        }
    }
}
