;; Returns at once.
(component
(core module $m (func (export "nothing") (result i32) i32.const 0))
(core instance $i (instantiate $m))
(func (export "nothing") (result (result)) (canon lift (core func $i "nothing"))))
