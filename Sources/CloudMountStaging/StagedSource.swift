public import CloudMountVFS

/// One extent of a staged file as the body of an upload.
public struct StagedSource: ByteSource {
    public let file: StagedFile
    public let extent: Extent
    /// What lies beyond the end of what is staged is zeros: the file was made longer without a write.
    public let zeroFilled: Bool

    public init(file: StagedFile, extent: Extent, zeroFilled: Bool = false) {
        self.file = file
        self.extent = extent
        self.zeroFilled = zeroFilled
    }

    public var count: Int { extent.count }

    public func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(VFSError) -> Int {
        let wanted = max(0, min(buffer.count, extent.count - offset))
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
        let count = try file.read(at: extent.lowerBound + offset, into: target)
        if count < wanted {
            // Cut short meanwhile: nothing short may be stored.
            guard zeroFilled else { throw VFSError(.io, "\(file.path) holds less than was staged") }
            UnsafeMutableRawBufferPointer(rebasing: target[count...]).initializeMemory(as: UInt8.self, repeating: 0)
        }
        return wanted
    }

    public func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let wanted = max(0, min(buffer.count, extent.count - offset))
        return file.readNow(
            at: extent.lowerBound + offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
    }
}
