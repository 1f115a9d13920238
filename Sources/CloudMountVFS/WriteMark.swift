/// What an object has that is a certain write of this mount: nothing less proves it. Other tools may keep the nonce beside bytes
/// that they have changed.
package struct WriteMark: Hashable, Sendable, Codable {
    package let nonce: String
    /// Bytes of the object.
    package let size: Int

    package init(nonce: String, size: Int) { (self.nonce, self.size) = (nonce, size) }

    /// Nil for an object without a nonce, or whose metadata is not known.
    package init?(_ info: ObjectInfo) {
        guard let nonce = info.metadata?.nonce else { return nil }
        self.init(nonce: nonce, size: info.size)
    }

    package func isOn(_ info: ObjectInfo) -> Bool { WriteMark(info) == self }
}
