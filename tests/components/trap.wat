;; Traps.
(component
(core module $m (func (export "trap") (result i32) unreachable))
(core instance $i (instantiate $m))
(func (export "trap") (result (result)) (canon lift (core func $i "trap"))))
