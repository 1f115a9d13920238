import CloudMountStaging
import CloudMountVFS

/// Which bytes of a version are there. A value.
struct Presence: Sendable {
    let size: Int
    private(set) var chunks: [Int: VersionMap.Entry] = [:]
    /// Of chunks that are not whole yet: what this process has written of them.
    private(set) var parts: [Int: ExtentMap] = [:]

    init(size: Int) { self.size = size }

    var isEmpty: Bool { chunks.isEmpty && parts.isEmpty }

    static func indices(_ extent: Extent) -> Range<Int> {
        extent.isEmpty ? 0..<0 : extent.lowerBound / VersionMap.chunk..<(extent.upperBound - 1) / VersionMap.chunk + 1
    }

    func holds(_ extent: Extent) -> Bool {
        guard extent.upperBound <= size else { return false }
        return Self.indices(extent).allSatisfy { index in
            chunks[index] != nil
                || parts[index]?.contains(extent.intersection(VersionMap.extent(index, of: size))) ?? false
        }
    }

    /// What of `extent` is not there.
    func missing(in extent: Extent) -> [Extent] {
        var missing = ExtentMap()
        for index in Self.indices(extent) where chunks[index] == nil {
            let wanted = extent.intersection(VersionMap.extent(index, of: size))
            for gap in parts[index]?.gaps(in: wanted) ?? [wanted] { missing.insert(gap) }
        }
        return missing.extents
    }

    /// Chunks of `extent` that `run` has not looked at yet.
    func unchecked(in extent: Extent, run: UInt32) -> [Int] {
        Self.indices(extent).filter { index in chunks[index].map { $0.run != run } ?? false }
    }

    mutating func used(_ extent: Extent, at use: UInt64) {
        for index in Self.indices(extent) { chunks[index]?.use = use }
    }

    mutating func set(_ index: Int, _ entry: VersionMap.Entry?) {
        chunks[index] = entry
        parts[index] = nil
    }

    /// Notes bytes that have been written.
    /// - Returns: the chunks that are all there by now, and need their checksums.
    mutating func wrote(_ extent: Extent) -> [Int] {
        var whole: [Int] = []
        for index in Self.indices(extent) where chunks[index] == nil {
            let all = VersionMap.extent(index, of: size)
            var part = parts[index] ?? ExtentMap()
            part.insert(extent.intersection(all))
            parts[index] = part
            if part.contains(all) { whole.append(index) }
        }
        return whole
    }

    mutating func removeAll() { (chunks, parts) = ([:], [:]) }

    /// The chunks that were not used for longest, in the order of the file where that says nothing.
    func oldest(_ count: Int) -> [Int] {
        Array(chunks.sorted { ($0.value.use, $0.key) < ($1.value.use, $1.key) }.prefix(count).map(\.key))
    }
}
