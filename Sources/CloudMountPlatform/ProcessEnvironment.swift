import Glibc

/// The environment of this process, as it is now.
public enum ProcessEnvironment {
    /// Values by their names; of a name that stands there twice, the last.
    public static var variables: [String: String] {
        var result: [String: String] = [:]
        var pointer = environ
        while let entry = pointer.pointee {
            let text = String(cString: entry)
            if let cut = text.firstIndex(of: "=") {
                result[String(text[..<cut])] = String(text[text.index(after: cut)...])
            }
            pointer += 1
        }
        return result
    }
}
