import CloudMountVFS

/// Owner and modes that a mount shows in place of what the store says; nil: as the store says. They are never stored, and what
/// is stored stays as it is: a change of what they stand for is refused, as vfat does with `-o uid=`, not taken and forgotten.
public struct ForcedAttributes: Sendable, Equatable {
    public var uid: UInt32?
    public var gid: UInt32?
    /// Of everything but directories and symbolic links, which have none.
    public var filePermissions: UInt32?
    public var directoryPermissions: UInt32?

    public init() {}

    private var saysNothing: Bool { self == ForcedAttributes() }

    /// Whether an extended attribute is shown, and may be changed. `security.capability` gives what an owner and a mode give, and who
    /// copies files with all their attributes takes it along: where the mount says the one, nobody else says the other.
    func shows(attribute name: String) -> Bool { saysNothing || name.hasPrefix("user.") }

    private func permissions(of kind: FileKind) -> UInt32? {
        switch kind {
        case .directory: directoryPermissions
        case .symbolicLink: nil
        default: filePermissions
        }
    }

    func apply(to attributes: inout FileAttributes) {
        if let uid { attributes.uid = uid }
        if let gid { attributes.gid = gid }
        if let permissions = permissions(of: attributes.kind) { attributes.permissions = permissions }
    }

    /// What of `changes` the store is to learn: not what is shown already, whatever they say.
    /// - Returns: nil when that is nothing.
    /// - Throws: `notPermitted`.
    func rest(of changes: AttributeChanges, kind: FileKind) throws(VFSError) -> AttributeChanges? {
        var rest = changes
        for (forced, asked) in [(uid, changes.uid), (gid, changes.gid), (permissions(of: kind), changes.permissions)] {
            guard let forced, let asked, asked != forced else { continue }
            throw VFSError(.notPermitted, "the mount says the owner and the mode of what is here")
        }
        if uid != nil { rest.uid = nil }
        if gid != nil { rest.gid = nil }
        if permissions(of: kind) != nil { rest.permissions = nil }
        let isEmpty =
            rest.permissions == nil && rest.uid == nil && rest.gid == nil && rest.size == nil && rest.accessed == nil
            && rest.modified == nil
        return isEmpty && changes.asksForOwnerOrMode ? nil : rest
    }
}

extension AttributeChanges {
    fileprivate var asksForOwnerOrMode: Bool { permissions != nil || uid != nil || gid != nil }
}
