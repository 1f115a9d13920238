package import CloudMountStaging
package import CloudMountVFS

/// A write as it is to be stored: what a file was when its commit began. A value, complete but for the staged bytes, which
/// it names.
package struct SealedWrite: Sendable, Equatable, Codable {
    package var mount: String
    package var key: ObjectKey
    /// The version under `key` that this write takes the place of; nil: there is none.
    package var replaces: ETag?
    package var attributes: StoredAttributes
    /// utimens(2) has set the modification time since the last write.
    package var hasExplicitTime: Bool
    package var layers: Layers
    /// Goes into the object's metadata, and proves later that the object is this write's.
    package var nonce: String
    /// An upload that has begun and not ended.
    package var upload: UnfinishedUpload?

    /// Where the bytes come from.
    package struct Layers: Sendable, Equatable, Codable {
        package var image: FileImage
        /// The stored version that unchanged bytes come from.
        package var base: ObjectInfo?
        /// The file in the staging area that holds the changed bytes.
        package var staged: String?

        package init(image: FileImage, base: ObjectInfo?, staged: String?) {
            self.image = image
            self.base = base
            self.staged = staged
        }
    }

    package init(
        mount: String, key: ObjectKey, replaces: ETag?, attributes: StoredAttributes, hasExplicitTime: Bool,
        layers: Layers, nonce: String, upload: UnfinishedUpload? = nil
    ) {
        self.mount = mount
        self.key = key
        self.replaces = replaces
        self.attributes = attributes
        self.hasExplicitTime = hasExplicitTime
        self.layers = layers
        self.nonce = nonce
        self.upload = upload
    }

    package var size: Int { layers.image.size }

    /// Only attributes have changed: the bytes are those of the base.
    package var isBase: Bool { layers.base != nil && layers.image.isWholeBase }

    /// What must hold of the key when the write becomes visible. Whatever the rule for conflicts: one that replaces what
    /// others have stored does so knowingly, and a request that arrives late destroys nothing newer.
    package var precondition: Precondition { replaces.map { .match($0) } ?? .absent }
}

/// An upload in parts that did not come to its end for a cause that may pass: the next attempt goes on with it.
package struct UnfinishedUpload: Sendable, Equatable, Codable {
    package var upload: Upload
    package var parts: [UploadPlan.Part]
    package var metadata: ObjectMetadata
    package var base: ETag?

    func isContinued(by parts: [UploadPlan.Part], _ write: SealedWrite, _ metadata: ObjectMetadata) -> Bool {
        upload.key == write.key && base == write.layers.base?.etag && self.parts == parts && self.metadata == metadata
    }
}

extension WriteMark {
    package init(_ write: SealedWrite) { self.init(nonce: write.nonce, size: write.size) }
}
