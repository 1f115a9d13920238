/// What a mount does with symbolic links, which in a bucket that others write are theirs.
public enum SymlinkRule: String, Sendable, CaseIterable {
    /// They are links.
    case follow
    /// They are not there, and nothing can take their names.
    case hide
    /// They are seen, removed and renamed, and lead nowhere; none can be made.
    case refuse
}
