public import CloudMountStaging
public import CloudMountVFS

/// Uploads that begin before the file's size is known.
extension UploadPlan {
    /// Bytes of part `number` of such an upload: a ladder of five steps, from 8 MiB up, that reaches the store's
    /// largest object with the parts it allows, where its limits let it. Nil beyond the last part.
    public static func partSize(forPart number: Int, capabilities: Capabilities) -> Int? {
        let limits = PartLimits(capabilities)
        guard number >= 1, number <= limits.count else { return nil }
        func size(_ step: Int, _ shift: Int) -> Int {
            max(limits.minimum, min(limits.maximum, usualPart << (step * shift)))
        }
        if limits.isGrid { return size(1, 1) }
        let width = max(1, limits.count / 5)
        let shift = (1...5).first { shift in
            (0..<5).reduce(0) { $0 + size($1, shift) } >= capabilities.maxObjectSize / width
        }
        return size(min(4, (number - 1) / width), shift ?? 5)
    }

    /// The parts that are still to be sent when a file, whose parts `sent` went up while it was being written, has
    /// come to its end: those that were written to afterwards, again, and what lies behind the last one. Nil when the
    /// upload cannot become the file any more and must be aborted.
    /// - Parameters:
    ///   - sent: from part 1 on, from offset 0 on, without gaps, each as long as `partSize(forPart:)` said.
    ///   - rewritten: what has changed since its part was read.
    public static func finishing(
        sent: [Extent], rewritten: ExtentMap, size: Int, capabilities: Capabilities
    ) -> [Part]? {
        var offset = sent.last?.upperBound ?? 0
        guard size >= offset, size <= capabilities.maxObjectSize else { return nil }
        var parts: [Part] = []
        for (index, extent) in sent.enumerated() where rewritten.overlaps(extent) {
            parts.append(Part(number: index + 1, extent: extent, kind: .upload))
        }
        var number = sent.count
        while offset < size {
            number += 1
            guard let step = partSize(forPart: number, capabilities: capabilities) else { return nil }
            parts.append(Part(number: number, extent: Extent(offset, min(size, offset + step)), kind: .upload))
            offset += step
        }
        return parts
    }
}
