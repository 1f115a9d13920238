import CloudMountCommit
import CloudMountStaging
import CloudMountVFS
import Testing

let kibibyte = 1 << 10
let mebibyte = 1 << 20
let gibibyte = 1 << 30

/// What S3 can do.
func s3Capabilities() -> Capabilities {
    var capabilities = Capabilities()
    capabilities.multipart = true
    capabilities.serverCopy = true
    capabilities.rangeCopy = true
    return capabilities
}

func object(_ size: Int) -> ObjectInfo {
    ObjectInfo(key: "k", size: size, etag: ETag("e"), stored: Timestamp(seconds: 0))
}

extension UploadPlan {
    var parts: [Part] { if case .multipart(let parts) = method { parts } else { [] } }
    var copies: [Part] { parts.filter { $0.kind != .upload } }
    var isPut: Bool { method == .put }
}

/// A plan and the file it is for.
struct Planned {
    let plan: UploadPlan
    let image: FileImage

    var parts: [UploadPlan.Part] { plan.parts }
    var copies: [UploadPlan.Part] { plan.copies }
    var isPut: Bool { plan.isPut }

    private var uploads: [Extent] {
        plan.isPut ? [Extent(0, image.size)] : parts.compactMap { $0.kind == .upload ? $0.extent : nil }
    }

    /// Bytes that travel up.
    var uploadedBytes: Int { uploads.reduce(0) { $0 + $1.count } }

    /// Base bytes that go up again and must be fetched first.
    var fetches: [Extent] {
        var fetches = ExtentMap()
        for upload in uploads {
            for case .base(let extent) in image.pieces(in: upload) { fetches.insert(extent) }
        }
        return fetches.extents
    }
}

/// Holds a plan against the rules of the store and the content of the file.
func check(
    _ plan: UploadPlan, _ image: FileImage, _ base: ObjectInfo?, _ capabilities: Capabilities, _ note: String = ""
) {
    switch plan.method {
    case .put:
        #expect(image.size <= capabilities.maxPutSize, "\(note)")
    case .multipart(let parts):
        #expect(capabilities.multipart && !parts.isEmpty && parts.count <= capabilities.maxParts, "\(note)")
        #expect(parts.count >= capabilities.minParts, "\(note)")
        #expect(parts.map(\.number) == Array(1...max(1, parts.count)), "\(note)")
        var offset = 0
        for part in parts {
            #expect(part.extent.lowerBound == offset && !part.extent.isEmpty, "\(note)")
            offset = part.extent.upperBound
            #expect(part.extent.count <= capabilities.maxPartSize, "\(note)")
            if offset < image.size { #expect(part.extent.count >= capabilities.minPartSize, "\(note)") }
            switch part.kind {
            case .upload: break
            case .copy(let source):
                #expect(capabilities.rangeCopy && source == part.extent, "\(note)")
                #expect(base.map { source.upperBound <= $0.size } == true, "\(note)")
                #expect(image.pieces(in: part.extent) == [.base(part.extent)], "\(note)")
            }
        }
        #expect(offset == image.size, "\(note)")
        if capabilities.equalParts {
            #expect(Set(parts.dropLast().map(\.extent.count)).count <= 1, "\(note)")
            if let first = parts.first, let last = parts.last {
                #expect(last.extent.count <= first.extent.count, "\(note)")
            }
        }
    }
}

/// A copy of the file `size` bytes long, some of it written anew.
func edited(_ size: Int, _ edits: [Extent]) -> FileImage {
    var image = FileImage(size: size, baseSize: size)
    for edit in edits { image.write(edit) }
    return image
}
