import CloudMountVFS

/// A section of the file after its keys and kinds have been checked.
struct Fields {
    indirect enum Value {
        case option(OptionValue)
        case fields(Fields)
        case list([Fields])
        case table([Entry])
    }

    struct Entry {
        var name: String
        var mark: Mark
        var fields: Fields
    }

    struct Field {
        var setting: Setting
        /// Of the value.
        var mark: Mark
        var value: Value
        /// A part of the value is written in the file itself.
        var inPlace = true
    }

    var mark: Mark
    /// Of sections that have a `provider` key.
    var provider: ProviderDescriptor?
    private var fields: [String: Field] = [:]

    init(mark: Mark) { self.mark = mark }

    subscript(name: String) -> Field? {
        get { fields[name] }
        set { fields[name] = newValue }
    }

    var all: [Field] { fields.values.sorted { $0.mark < $1.mark } }

    func mark(_ name: String) -> Mark { fields[name]?.mark ?? mark }

    private func option(_ name: String) -> OptionValue? {
        if case .option(let value)? = fields[name]?.value { value } else { nil }
    }
    func text(_ name: String) -> String? { if case .string(let text)? = option(name) { text } else { nil } }
    func boolean(_ name: String) -> Bool? { if case .boolean(let value)? = option(name) { value } else { nil } }
    func integer(_ name: String) -> Int? { if case .integer(let value)? = option(name) { value } else { nil } }
    func duration(_ name: String) -> Duration? { if case .duration(let value)? = option(name) { value } else { nil } }
    func section(_ name: String) -> Fields? {
        if case .fields(let fields)? = fields[name]?.value { fields } else { nil }
    }
    func list(_ name: String) -> [Fields] {
        if case .list(let list)? = fields[name]?.value { list } else { [] }
    }
    func table(_ name: String) -> [Entry] {
        if case .table(let entries)? = fields[name]?.value { entries } else { [] }
    }
    func choice<Choice: RawRepresentable<String>>(_ name: String) -> Choice? {
        text(name).flatMap { Choice(rawValue: $0) }
    }
}
