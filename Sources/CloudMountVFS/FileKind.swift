/// What an inode is.
public enum FileKind: UInt32, Sendable, Codable {
    // The values are those of S_IFMT.
    case fifo = 0o010000
    case characterDevice = 0o020000
    case directory = 0o040000
    case blockDevice = 0o060000
    case regular = 0o100000
    case symbolicLink = 0o120000
    case socket = 0o140000
}
