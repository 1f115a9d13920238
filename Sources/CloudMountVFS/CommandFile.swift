/// A file that names a command: who may write it can run programs as the user of this process.
public enum CommandFile {
    /// - Parameters:
    ///   - file: how the message names it.
    ///   - mode: permission bits, as of `stat(2)`.
    ///   - user: of this process.
    /// - Returns: why its commands are not run; nil when nobody may write it but root and `user`.
    public static func fault(_ file: String, mode: UInt32, owner: UInt32, user: UInt32) -> String? {
        if mode & 0o002 != 0 {
            return "everyone may write \(file) (mode 0\(String(mode & 0o777, radix: 8))); chmod o-w it"
        }
        if owner != 0, owner != user {
            return "\(file) belongs to user \(owner), who is neither root nor the user \(user) that would run it"
        }
        return nil
    }
}
