import CloudMountStaging
import CloudMountVFS

/// How a store wants an upload cut into parts.
struct PartLimits {
    var minimum: Int
    var maximum: Int
    var count: Int
    /// Parts in one upload, at least.
    var least: Int
    /// All parts but the last are of one size.
    var isGrid: Bool

    init(_ capabilities: Capabilities) {
        minimum = max(1, capabilities.minPartSize)
        maximum = max(minimum, capabilities.maxPartSize)
        count = max(1, capabilities.maxParts)
        least = max(1, capabilities.minParts)
        // Without this room between the limits not every length can be cut into legal parts.
        isGrid = capabilities.equalParts || maximum / 2 < minimum
    }

    /// The size of the parts of an object that goes up whole; nil when no size is legal.
    func plainPart(_ size: Int) -> Int? {
        let mebibyte = 1 << 20
        var part = max(minimum, min(UploadPlan.usualPart, maximum))
        let needed = (size + count - 1) / count
        if needed > part { part = min(maximum, (needed + mebibyte - 1) / mebibyte * mebibyte) }
        return needed <= part ? part : nil
    }

    func plainGrid(_ size: Int) -> [UploadPlan.Part]? {
        plainPart(size).map { grid(size, $0) { _ in .upload } }
    }

    private func grid(_ size: Int, _ part: Int, _ kind: (Extent) -> UploadPlan.Part.Kind) -> [UploadPlan.Part] {
        stride(from: 0, to: size, by: part).enumerated().map { index, offset in
            let extent = Extent(offset, min(size, offset + part))
            return UploadPlan.Part(number: index + 1, extent: extent, kind: kind(extent))
        }
    }

    /// `parts`, the longest of them halved until there are as many as the store wants. Nil when they are too short.
    func enough(_ parts: [UploadPlan.Part]) -> [UploadPlan.Part]? {
        var parts = parts
        while parts.count < least {
            guard !isGrid, let index = parts.indices.max(by: { parts[$0].extent.count < parts[$1].extent.count }) else {
                return nil
            }
            let whole = parts[index].extent
            let middle = max(whole.lowerBound + minimum, (whole.lowerBound + whole.upperBound) / 2)
            let rest = Extent(middle, whole.upperBound)
            guard !rest.isEmpty, rest.count >= minimum || index == parts.count - 1 else { return nil }
            let isCopied = parts[index].kind != .upload
            let halves = [Extent(whole.lowerBound, middle), rest].map {
                UploadPlan.Part(number: 0, extent: $0, kind: isCopied ? .copy($0) : .upload)
            }
            parts.replaceSubrange(index...index, with: halves)
        }
        for index in parts.indices { parts[index].number = index + 1 }
        return parts
    }

    // MARK: With copies

    /// Cells of one size, each copied when nothing in it has changed. Nil when no cell size is legal.
    func copyingGrid(_ image: FileImage) -> [UploadPlan.Part]? {
        let unchanged = ExtentMap(UploadPlan.baseExtents(image))
        var best: (cost: Int, parts: [UploadPlan.Part])?
        for size in [minimum, 8 << 20, 16 << 20, 32 << 20, 64 << 20, 256 << 20, 1 << 30] {
            guard size >= minimum, size <= maximum, (image.size + size - 1) / size <= count else { continue }
            let parts = grid(image.size, size) { unchanged.contains($0) ? .copy($0) : .upload }
            let cost = parts.reduce(0) {
                $0 + UploadPlan.requestCost + ($1.kind == .upload ? $1.extent.count : 0)
            }
            if cost < best?.cost ?? .max { best = (cost, parts) }
        }
        return best?.parts
    }

    /// Parts as the changes ask for. Nil when too many would be needed.
    func copyingParts(_ image: FileImage) -> [UploadPlan.Part]? {
        let unchanged = UploadPlan.baseExtents(image)
        var usual = max(minimum, min(UploadPlan.usualPart, maximum / 2))
        // Where that makes too many parts, they grow: at first those that are cut from long stretches, then all.
        while true {
            for smallest in [minimum, usual] {
                let copies = UploadPlan.copies(
                    of: unchanged, size: image.size, minimum: smallest, requestCost: UploadPlan.requestCost)
                if let parts = cut(copies, image.size, usual: usual, smallest: smallest) { return parts }
            }
            guard usual < maximum / 2 else { return nil }
            usual = min(2 * usual, maximum / 2)
        }
    }

    /// Cuts the copies, and what lies between them, into parts of `smallest` to `maximum` bytes. Nil when those are too many.
    private func cut(_ copies: [Extent], _ size: Int, usual: Int, smallest: Int) -> [UploadPlan.Part]? {
        var parts: [UploadPlan.Part] = []
        func append(_ extent: Extent, _ pieces: Int, copied: Bool) -> Bool {
            // Known before they are made: a file of terabytes that is mostly hole has millions.
            guard pieces <= count - parts.count else { return false }
            let (whole, rest) = extent.count.quotientAndRemainder(dividingBy: pieces)
            // The count itself times an index may be beyond any number.
            func bound(_ index: Int) -> Int { extent.lowerBound + whole * index + rest * index / pieces }
            for index in 0..<pieces {
                let part = Extent(bound(index), bound(index + 1))
                parts.append(
                    UploadPlan.Part(number: parts.count + 1, extent: part, kind: copied ? .copy(part) : .upload))
            }
            return true
        }
        let copySize = min(maximum, max(UploadPlan.usualCopy, 2 * smallest))
        var offset = 0
        for copy in copies + [Extent(size, size)] {
            let run = Extent(offset, copy.lowerBound)
            if !run.isEmpty, !append(run, max(1, run.count / usual), copied: false) { return nil }
            if !copy.isEmpty, !append(copy, (copy.count + copySize - 1) / copySize, copied: true) { return nil }
            offset = copy.upperBound
        }
        return parts
    }
}
