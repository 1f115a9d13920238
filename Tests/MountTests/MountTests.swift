import Testing

/// Real mounts of the built binary, used by ordinary programs. One at a time: each may load the machine as it likes.
@Suite("Mounts", .serialized)
struct MountTests {}
