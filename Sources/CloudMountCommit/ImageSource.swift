package import CloudMountStaging
package import CloudMountVFS

/// A range of a changed file as the body of an upload: staged bytes and zeros, nothing that is only in the store.
package struct ImageSource: ByteSource {
    package let staged: StagedFile?
    package let extent: Extent
    /// Cover `extent` in order.
    package let pieces: [FileImage.Piece]

    /// Nil when some bytes would have to come from the base.
    package init?(_ image: FileImage, _ extent: Extent, staged: StagedFile?) {
        let pieces = image.pieces(in: extent)
        for case .base in pieces { return nil }
        self.staged = staged
        self.extent = extent
        self.pieces = pieces
    }

    package var count: Int { extent.count }

    package func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        let wanted = Extent(offset: extent.lowerBound + offset, count: min(buffer.count, count - offset))
        for piece in pieces {
            let part = piece.extent.intersection(wanted)
            if part.isEmpty { continue }
            let low = part.lowerBound - wanted.lowerBound
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[low..<low + part.count])
            if case .staged = piece {
                // Bytes that are not there any more were changed meanwhile; nothing short may be stored.
                guard let staged, try staged.read(at: part.lowerBound, into: target) == part.count else {
                    throw VFSError(.io, "staged bytes are missing")
                }
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
        return wanted.count
    }
}
