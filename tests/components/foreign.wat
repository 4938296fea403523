;; Imports what harvest does not offer.
(component (import "acme:rocket/launch@1.0.0" (instance)))
