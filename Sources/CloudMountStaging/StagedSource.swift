public import CloudMountVFS

/// One extent of a staged file as the body of an upload.
public struct StagedSource: ByteSource {
    public let file: StagedFile
    public let extent: Extent

    public init(file: StagedFile, extent: Extent) {
        self.file = file
        self.extent = extent
    }

    public var count: Int { extent.count }

    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        let wanted = max(0, min(buffer.count, extent.count - offset))
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
        guard try file.read(at: extent.lowerBound + offset, into: target) == wanted else {
            // Cut short meanwhile: nothing short may be stored.
            throw VFSError(.io, "\(file.path) holds less than was staged")
        }
        return wanted
    }
}
