package import CloudMountVFS
import Glibc

/// The names that versions get which lost a conflict: `report.txt` becomes `report (conflict HOST 2026-01-31T12-00-00).txt`.
package enum ConflictName {
    /// Names that are tried within one second.
    package static let most = 100

    /// - Parameter attempt: from 1 on, where an earlier name was taken.
    package static func key(beside key: ObjectKey, now: Timestamp, attempt: Int = 1) -> ObjectKey {
        let text = key.string
        let start = text.utf8.lastIndex(of: UInt8(ascii: "/")).map { text.utf8.index(after: $0) } ?? text.startIndex
        return ObjectKey(String(text[..<start]) + name(String(text[start...]), now: now, attempt: attempt))
    }

    package static func name(_ name: String, now: Timestamp, attempt: Int = 1) -> String {
        var seconds = now.seconds
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let time =
            "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour))-"
            + "\(two(parts.tm_min))-\(two(parts.tm_sec))"
        let label = " (conflict \(host()) \(time)\(attempt > 1 ? " \(attempt)" : ""))"
        var stem = Substring(name)
        var suffix = Substring("")
        if let dot = name.lastIndex(of: "."), dot > name.startIndex {
            stem = name[..<dot]
            suffix = name[dot...]
        }
        while !stem.isEmpty, stem.utf8.count + label.utf8.count + suffix.utf8.count > 255 { stem = stem.dropLast() }
        return stem + label + suffix
    }

    private static func host() -> String {
        var host = [CChar](repeating: 0, count: 65)
        gethostname(&host, host.count - 1)
        return String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
