import CloudMountVFS

/// One read(2) as the kernel asks for it.
struct ReadCall: Sendable {
    /// Wherever the file ends.
    let wanted: Extent
    /// Past the kernel's pages.
    let isDirect: Bool
    let reply: ReplyBox<ReadSlices>
}
