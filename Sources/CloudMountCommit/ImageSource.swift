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
        for piece in pieces[firstPiece(at: wanted.lowerBound)...] {
            let part = piece.extent.intersection(wanted)
            if part.isEmpty { break }
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

    package func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let wanted = Extent(offset: extent.lowerBound + offset, count: min(buffer.count, count - offset))
        var done = 0
        for piece in pieces[firstPiece(at: wanted.lowerBound)...] {
            let part = piece.extent.intersection(wanted)
            if part.isEmpty { break }
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + part.count])
            if case .staged = piece {
                guard let count = staged?.readNow(at: part.lowerBound, into: target) else { break }
                done += count
                if count < part.count { break }
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
                done += part.count
            }
        }
        return done > 0 ? done : nil
    }

    /// The index of the piece that holds `offset`, which lies in `extent`.
    private func firstPiece(at offset: Int) -> Int {
        var low = 0
        var high = pieces.count
        while low < high {
            let middle = (low + high) / 2
            if pieces[middle].extent.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
