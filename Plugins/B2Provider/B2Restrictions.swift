import CloudMountVFS

/// Holds what a mount wants against what its key may do.
enum B2Restrictions {
    /// - Returns: why the mount can only be read; nil when it can be written.
    /// - Throws: `permissionDenied`, naming what is missing.
    static func check(
        _ authorisation: B2Authorisation, _ options: B2Options, writable: Bool
    ) throws(VFSError) -> String? {
        for (capability, purpose) in [("listFiles", "listed"), ("readFiles", "read")]
        where !authorisation.capabilities.contains(capability) {
            throw VFSError(
                .permissionDenied,
                "the application key lacks the capability \(capability), without which nothing can be \(purpose)")
        }
        if let allowed = authorisation.namePrefix, !options.prefix.utf8.starts(with: allowed.utf8) {
            let place = options.prefix.isEmpty ? "the mount begins at the bucket's top" : "not '\(options.prefix)'"
            throw VFSError(
                .permissionDenied,
                "the application key is restricted to names that begin with '\(allowed)', and \(place): "
                    + "set prefix: \(suggestion(allowed))")
        }
        guard writable else { return nil }
        guard authorisation.capabilities.contains("writeFiles") else {
            return "the application key lacks the capability writeFiles"
        }
        if options.deletion == .permanent, !authorisation.capabilities.contains("deleteFiles") {
            throw VFSError(
                .permissionDenied,
                "delete: permanent needs the capability deleteFiles, which the application key lacks; "
                    + "delete: hide does without")
        }
        return nil
    }

    /// A prefix of a mount ends in a slash.
    private static func suggestion(_ allowed: String) -> String {
        allowed.utf8.last == UInt8(ascii: "/") ? allowed : allowed + "…/"
    }
}
